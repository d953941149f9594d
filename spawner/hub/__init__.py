"""Hub: integrates the workbench with JupyterHub: configuration, spawner, form, sign-up, pages and REST API.

Only this package imports JupyterHub. Decisions are in ``spawner.policy``, effects in ``spawner.controller``.
"""
