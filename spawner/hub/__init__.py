"""The JupyterHub side: configuration, spawner, form, sign-up and pages.

The only room that imports JupyterHub; decisions are made in ``spawner.policy``, effects in ``spawner.controller``.
"""
