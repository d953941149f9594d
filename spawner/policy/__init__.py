"""Policies: pure functions from data to decisions, without I/O, clock or JupyterHub."""
