"""From a PyTorch model in Python to files that need no Python: ``wb export``."""
