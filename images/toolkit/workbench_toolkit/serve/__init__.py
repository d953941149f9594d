"""From an exported model to an HTTP service: ``wb serve``."""
