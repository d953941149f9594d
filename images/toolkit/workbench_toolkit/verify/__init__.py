"""Verification: ``wb verify`` compares this image with its manifest.

Every difference and every undeclared value is a failure.
"""
