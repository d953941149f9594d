"""The product's configuration file, on a folder of the process stack's instead of the hub image's own.

Beyond the paths it adds one service for the tests, which may do everything, and lets anybody in who says who they are.
"""

import os
from pathlib import Path

from spawner.hub import configure

folder = Path(os.environ["STACK_FOLDER"])
configure.DATA = folder / "data"
configure.HUB_DATABASE_FILE = configure.DATA / "jupyterhub.sqlite"
configure.HUB_DATABASE = f"sqlite:///{configure.HUB_DATABASE_FILE}"
configure.DOCKER_SOCKET = str(folder / "run/docker.sock")

load_subconfig(str(folder / "etc/jupyterhub_config.py"))  # noqa: F821 - JupyterHub provides it
c = get_config()  # noqa: F821
c.Authenticator.allow_all = True
c.JupyterHub.services.append({"name": "test", "api_token": os.environ["STACK_TOKEN"]})
c.JupyterHub.load_roles.append(
    {"name": "test", "services": ["test"], "scopes": ["admin:users", "admin:servers", "tokens"]}
)
