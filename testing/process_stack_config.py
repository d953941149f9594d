"""The hub's configuration in a process stack: the product's file, on a folder of the test's.

It adds one service with every right for the tests, and the password of everyone is ``any``.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from traitlets.config import Config

from spawner.hub import configure

if TYPE_CHECKING:  # JupyterHub defines both where it reads this file

    def load_subconfig(path: str) -> None:
        """Run another configuration file."""

    def get_config() -> Config:
        """Return the configuration that the files fill in."""


folder = Path(os.environ["STACK_FOLDER"])
configure.DATA = folder / "data"
configure.HUB_DATABASE_FILE = configure.DATA / "jupyterhub.sqlite"
configure.HUB_DATABASE = f"sqlite:///{configure.HUB_DATABASE_FILE}"
configure.DOCKER_SOCKET = str(folder / "run/docker.sock")

if "STACK_SHARED_ORIGIN" in os.environ:
    configure._configure_origin = lambda *_: None
load_subconfig(str(folder / "etc/jupyterhub_config.py"))
c = get_config()
c.DummyAuthenticator.allow_all = True
c.DummyAuthenticator.password = "any"
if "STACK_REFRESH_SECONDS" in os.environ:
    c.Authenticator.auth_refresh_age = int(os.environ["STACK_REFRESH_SECONDS"])
c.JupyterHub.services.append({"name": "test", "api_token": os.environ["STACK_TOKEN"]})
c.JupyterHub.load_roles.append(
    {"name": "test", "services": ["test"], "scopes": ["admin:users", "admin:servers", "tokens"]}
)
