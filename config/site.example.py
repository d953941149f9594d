"""An example of a site file; docs/configuration.md explains it. Copy it to `site.py` and run scripts/up."""

# JupyterHub and its tools bring `c`, as in every jupyterhub_config.py.
c = get_config()  # noqa: F821

# One line at the top of every page.
c.JupyterHub.template_vars = {"announcement": "Maintenance on Friday from 18:00."}

# Users who were away for two weeks log in again.
c.JupyterHub.cookie_max_age_days = 14
