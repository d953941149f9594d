"""Nouns of the command line ``workbench``, one module each.

All but the audit use the hub's REST API, with a JupyterHub token.
"""
