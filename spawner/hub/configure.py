"""JupyterHub's configuration as a function of the settings.

Only here are JupyterHub's traits set; what an admin may choose is a field of Settings.
"""

from __future__ import annotations

import functools
from pathlib import Path

import nativeauthenticator.handlers
from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator
from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets import TraitError
from traitlets.config import Config

from spawner.catalog import load_catalog
from spawner.clock import Clock
from spawner.containers import Containers
from spawner.controller import Controller
from spawner.gpus import AgentClient
from spawner.hub.approval import NAME_PATTERN, ApprovedSignUp
from spawner.hub.handlers import scopes
from spawner.hub.handlers.routes import with_workbench_routes
from spawner.hub.hub_database import reduce_orm_queries, relax_sqlite_durability
from spawner.hub.single_instance import open_ledger
from spawner.hub.servers.idle_release import IdleRelease
from spawner.hub.servers.resume_queue import SERVICE, SERVICE_SCOPES, resume_queue
from spawner.hub.servers.spawner import WorkbenchSpawner
from spawner.hub.unavailable import PATIENCE_SECONDS, answer_unavailable
from spawner.hub.views.form import TEMPLATES
from spawner.hub.views.lease import build_lease_view
from spawner.hub.workbench import Workbench, supervise
from spawner.model import SettingsError
from spawner.policy.container import PORT
from spawner.policy.formatting import format_gpu_name
from spawner.settings import Settings

DATA = Path("/data")
HUB_DATABASE_FILE = DATA / "jupyterhub.sqlite"
HUB_DATABASE = f"sqlite:///{HUB_DATABASE_FILE}"
DOCKER_SOCKET = "/run/workbench/docker.sock"
HUB_PORT = 8081
MIN_PASSWORD_LENGTH = 8
# it bounds the wait in line as well; what follows the grant has a bound of its own
MAX_WAIT_SECONDS = 7 * 24 * 3600


def build_workbench(settings: Settings, catalog_file: Path) -> Workbench:
    """Open the ledger, read the catalog and join the parts; nothing is asked of agent or Docker yet.

    Raises SettingsError, Unknown.
    """
    catalog = load_catalog(catalog_file)
    ledger = open_ledger(settings)
    clock, agent = Clock(ledger), AgentClient(settings.agent_url)
    containers = Containers(DOCKER_SOCKET, settings.instance)
    controller = Controller(ledger, agent, containers, catalog, settings, clock)
    return Workbench(controller, ledger, agent, clock, catalog, settings)


def configure(c: Config, settings: Settings, workbench: Workbench) -> None:
    """Set every trait of JupyterHub that the workbench needs; raises SettingsError."""
    _configure_hub(c)
    _configure_queue(c, workbench)
    _configure_servers(c, settings, workbench)
    _configure_users(c, settings)
    authenticator = _resolve_authenticator(settings.authenticator)
    c.JupyterHub.authenticator_class = with_workbench_routes(authenticator, lambda: workbench)
    c.JupyterHub.template_vars = {
        "has_sign_up": settings.authenticator == "native",
        "claim_minutes": settings.claim_minutes,
        # JupyterHub calls a function of the user; the pages call what it returns, and wait for the answer
        "lease_of": lambda _user: functools.partial(build_lease_view, workbench),
        "format_gpu_name": lambda _user: format_gpu_name,
    }


def start_background_tasks(workbench: Workbench) -> None:
    """Start the controller, and what takes up the line, beside the hub that is reading its configuration.

    A subcommand such as ``jupyterhub upgrade-db`` reads the same file and is no hub: nothing is started.
    """
    if JupyterHub.initialized():
        answer_unavailable(HUB_DATABASE_FILE)
        run_background_tasks(workbench, f"http://127.0.0.1:{HUB_PORT}/hub/api")


def run_background_tasks(workbench: Workbench, api: str) -> None:
    """Start what runs beside the hub whose REST API is ``api``, in the loop that runs now."""
    workbench.metrics.publish()
    idle_release = IdleRelease(workbench, api)
    workbench.idle_tracker.on_idle = idle_release.begin
    workbench.closed_listeners.append(idle_release.go_on)
    workbench.run_in_background(
        supervise(workbench.controller),
        supervise(workbench.gpu_sampler),
        resume_queue(workbench, api),
    )


def _configure_hub(c: Config) -> None:
    reduce_orm_queries()
    c.JupyterHub.hub_bind_url = f"http://0.0.0.0:{HUB_PORT}"
    c.JupyterHub.hub_connect_url = f"http://hub:{HUB_PORT}"
    c.JupyterHub.db_url = HUB_DATABASE
    c.JupyterHub.db_kwargs = {
        "pool_events": [(relax_sqlite_durability, "connect")],
        # what is under way waits for it; who comes meanwhile is told to come again
        "connect_args": {"timeout": PATIENCE_SECONDS, "check_same_thread": False},
    }
    c.JupyterHub.cookie_secret_file = str(DATA / "jupyterhub_cookie_secret")
    c.JupyterHub.cleanup_servers = False  # a restart of the hub cuts nobody off
    # people in line are pending spawns; how many containers start at once is bounded by Workbench.launch_slots
    c.JupyterHub.concurrent_spawn_limit = 0
    # NativeAuthenticator adds its own to the first hub of a process only
    c.JupyterHub.template_paths = [str(TEMPLATES), nativeauthenticator.handlers.TEMPLATE_DIR]
    # what the controller says stands among JupyterHub's own lines
    c.JupyterHub.logging_config = {
        "filters": {"refusals": {"()": "spawner.hub.refusal.without_traceback"}},
        "handlers": {"console": {"filters": ["refusals"]}},
        "loggers": {"workbench": {"level": "INFO", "handlers": ["console"]}},
    }
    c.JupyterHub.proxy_class = ConfigurableHTTPProxy
    # the proxy is a process of its own; both read CONFIGPROXY_AUTH_TOKEN
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = "http://proxy-api:8001"


def _configure_queue(c: Config, workbench: Workbench) -> None:
    c.JupyterHub.custom_scopes = scopes.DEFINITIONS
    c.JupyterHub.extra_user_scopes = scopes.OF_EVERY_USER
    c.JupyterHub.services = [
        {"name": SERVICE, "api_token": workbench.service_token, "display": False}
    ]
    c.JupyterHub.trust_user_provided_tokens = True  # that one, of 256 random bits
    c.JupyterHub.load_roles = [{"name": SERVICE, "services": [SERVICE], "scopes": SERVICE_SCOPES}]


def _configure_servers(c: Config, settings: Settings, workbench: Workbench) -> None:
    c.JupyterHub.allow_named_servers = settings.named_servers > 0
    c.JupyterHub.named_server_limit_per_user = settings.named_servers
    c.JupyterHub.spawner_class = WorkbenchSpawner
    c.WorkbenchSpawner.get_workbench = lambda: workbench
    c.WorkbenchSpawner.answer_timeout = settings.start_timeout_seconds
    c.Spawner.start_timeout = MAX_WAIT_SECONDS
    c.Spawner.http_timeout = 30
    c.Spawner.poll_interval = 10
    c.Spawner.ip = "0.0.0.0"  # noqa: S104 - inside its own container
    c.Spawner.port = PORT
    c.Spawner.default_url = "/lab"
    c.Spawner.env_keep = []
    # what a server's own token may do: report activity, check who is at its door, and mind its own lease
    c.Spawner.server_token_scopes = [
        "users:activity!user",
        "access:servers!server",
        scopes.OF_A_SERVER,
    ]


def _configure_users(c: Config, settings: Settings) -> None:
    c.Authenticator.admin_users = {settings.admin}
    if settings.authenticator != "native":
        return
    # whoever authenticates was approved: the approval is the list of who is allowed
    c.ApprovedSignUp.allow_all = True
    c.ApprovedSignUp.open_signup = False
    c.ApprovedSignUp.username_pattern = NAME_PATTERN
    c.ApprovedSignUp.minimum_password_length = MIN_PASSWORD_LENGTH
    c.ApprovedSignUp.check_common_password = True
    c.ApprovedSignUp.allowed_failed_logins = 10
    c.ApprovedSignUp.seconds_before_next_try = 60


def _resolve_authenticator(name: str) -> type[Authenticator]:
    if name == "native":
        return ApprovedSignUp
    try:
        found: type[Authenticator] = JupyterHub.authenticator_class.validate(None, name)
    except TraitError as error:
        raise SettingsError(
            f"WORKBENCH_AUTHENTICATOR={name} cannot be used: no authenticator of that name is installed."
        ) from error
    return found
