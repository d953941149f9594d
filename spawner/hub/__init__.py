"""The JupyterHub side: configuration, spawner, form, sign-up and pages.

The only room that imports JupyterHub; what it decides is decided in ``spawner.policy`` and done in ``spawner.controller``.
"""
