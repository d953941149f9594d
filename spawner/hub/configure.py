"""JupyterHub's configuration as a function of the settings.

Only here are JupyterHub's traits set; what an admin may choose is a field of Settings.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from jupyterhub.app import JupyterHub
from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets.config import Config

from spawner.catalog import load_catalog
from spawner.containers import Containers
from spawner.controller import Controller
from spawner.gpus import Agent
from spawner.hub.approval import NAME_PATTERN, ApprovedSignUp
from spawner.hub.form import TEMPLATES
from spawner.hub.spawner import WorkbenchSpawner
from spawner.hub.workbench import Workbench, keep_running
from spawner.ledger import Ledger
from spawner.policy.container import PORT
from spawner.settings import Settings

DATA = Path("/data")
HUB_DATABASE = f"sqlite:///{DATA}/jupyterhub.sqlite"
DOCKER_SOCKET = "/run/workbench/docker.sock"
LEAST_PASSWORD_LENGTH = 8
# JupyterHub's own bound only has to lie beyond ours, which says more when it strikes
START_MARGIN_SECONDS = 60


def build_workbench(settings: Settings, catalog_file: Path) -> Workbench:
    """Open the ledger, read the catalog and join the parts; nothing is asked of agent or Docker yet.

    Raises SettingsError.
    """
    catalog = load_catalog(catalog_file)
    controller = Controller(
        Ledger.open(settings.ledger_url, first_uid=settings.first_uid),
        Agent(settings.agent_url),
        Containers(DOCKER_SOCKET, settings.instance),
        catalog,
        settings,
    )
    return Workbench(controller, catalog, settings)


def configure(c: Config, settings: Settings, workbench: Workbench) -> None:
    """Set every trait of JupyterHub that the workbench needs."""
    _configure_hub(c)
    _configure_servers(c, settings, workbench)
    _configure_people(c, settings)


def start_controller(workbench: Workbench) -> asyncio.Task[None] | None:
    """Start the controller beside the hub that is reading its configuration; keep what it returns.

    A subcommand such as ``jupyterhub upgrade-db`` reads the same file and is no hub: None, nothing is started.
    """
    if not JupyterHub.initialized():
        return None
    return asyncio.get_running_loop().create_task(keep_running(workbench.controller))


def _configure_hub(c: Config) -> None:
    c.JupyterHub.hub_bind_url = "http://0.0.0.0:8081"
    c.JupyterHub.hub_connect_url = "http://hub:8081"
    c.JupyterHub.db_url = HUB_DATABASE
    c.JupyterHub.cookie_secret_file = str(DATA / "jupyterhub_cookie_secret")
    c.JupyterHub.cleanup_servers = False  # a restart of the hub cuts nobody off
    c.JupyterHub.concurrent_spawn_limit = 100
    c.JupyterHub.template_paths = [str(TEMPLATES)]
    # what the controller says stands among JupyterHub's own lines
    c.JupyterHub.logging_config = {
        "loggers": {"workbench": {"level": "INFO", "handlers": ["console"]}}
    }
    c.JupyterHub.proxy_class = ConfigurableHTTPProxy
    # the proxy is a process of its own; both read CONFIGPROXY_AUTH_TOKEN
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = "http://proxy:8001"


def _configure_servers(c: Config, settings: Settings, workbench: Workbench) -> None:
    c.JupyterHub.spawner_class = WorkbenchSpawner
    c.WorkbenchSpawner.get_workbench = lambda: workbench
    c.WorkbenchSpawner.answer_timeout = settings.start_timeout_seconds
    c.Spawner.start_timeout = settings.start_timeout_seconds + START_MARGIN_SECONDS
    c.Spawner.http_timeout = 30
    c.Spawner.poll_interval = 10
    c.Spawner.ip = "0.0.0.0"  # noqa: S104 - inside its own container
    c.Spawner.port = PORT
    c.Spawner.default_url = "/lab"
    c.Spawner.env_keep = []
    # what a server's own token may do: report activity, and check who is at its door
    c.Spawner.server_token_scopes = ["users:activity!user", "access:servers!server"]


def _configure_people(c: Config, settings: Settings) -> None:
    c.Authenticator.admin_users = {settings.admin}
    has_sign_up = settings.authenticator == "native"
    c.JupyterHub.template_vars = {"has_sign_up": has_sign_up}
    if not has_sign_up:
        c.JupyterHub.authenticator_class = settings.authenticator
        return
    c.JupyterHub.authenticator_class = ApprovedSignUp
    # whoever authenticates was approved: the approval is the list of who is allowed
    c.ApprovedSignUp.allow_all = True
    c.ApprovedSignUp.open_signup = False
    c.ApprovedSignUp.username_pattern = NAME_PATTERN
    c.ApprovedSignUp.minimum_password_length = LEAST_PASSWORD_LENGTH
    c.ApprovedSignUp.check_common_password = True
    c.ApprovedSignUp.allowed_failed_logins = 10
    c.ApprovedSignUp.seconds_before_next_try = 60
