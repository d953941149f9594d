"""Serving: ``wb serve`` makes an exported model an HTTP service."""
