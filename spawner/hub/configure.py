"""Configuration: sets JupyterHub's traits from the settings.

No other module sets a trait. An admin's choices are fields of ``Settings``.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import nativeauthenticator.handlers
from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator
from jupyterhub.proxy import ConfigurableHTTPProxy
from oauthenticator.oauth2 import OAuthenticator
from traitlets import TraitError
from traitlets.config import Config

from spawner.bounds_file import BOUNDS_FILE, load_bounds
from spawner.catalog import load_catalog
from spawner.clock import Clock
from spawner.containers import Containers
from spawner.controller import Controller
from spawner.gpus import AgentClient
from spawner.hub.approval import NAME_PATTERN, ApprovedSignUp
from spawner.hub.confirmation import confirm_orders
from spawner.hub.failed_log_ins import count_failed_log_ins
from spawner.hub.handlers import scopes
from spawner.hub.handlers.provider_sign_in import with_provider_rules
from spawner.hub.handlers.routes import with_workbench_routes
from spawner.hub.hub_database import reduce_orm_queries, relax_sqlite_durability
from spawner.hub.identity import identify
from spawner.hub.openid import CONNECT_SECONDS, REQUEST_SECONDS
from spawner.hub.page_headers import ScriptNonces, set_page_headers
from spawner.hub.servers.idle_release import IdleRelease
from spawner.hub.servers.resume_queue import SERVICE, SERVICE_SCOPES, resume_queue
from spawner.hub.servers.spawner import WorkbenchSpawner
from spawner.hub.sessions import bind_sessions
from spawner.hub.single_instance import open_ledger
from spawner.hub.site import read_site_files
from spawner.hub.unavailable import PATIENCE_SECONDS, answer_unavailable
from spawner.hub.views.form import TEMPLATES
from spawner.hub.views.help import render_help_pages
from spawner.hub.views.lease import build_lease_view
from spawner.hub.views.people import count_waiting_for
from spawner.hub.views.scope_sentences import describe_scopes
from spawner.hub.workbench import Workbench, supervise
from spawner.model import SettingsError
from spawner.policy.container import PORT
from spawner.policy.formatting import format_gpu_name
from spawner.policy.network import HUB_PORT
from spawner.settings import NATIVE, Settings
from spawner.version import VERSION

DATA = Path("/data")
HUB_DATABASE_FILE = DATA / "jupyterhub.sqlite"
HUB_DATABASE = f"sqlite:///{HUB_DATABASE_FILE}"
SITE = "site"
"""The value of ``WORKBENCH_AUTHENTICATOR`` for an authenticator that the site files choose."""
CLIENT_SECRET = "OAUTH_CLIENT_SECRET"  # noqa: S105 - the variable that ``with-secrets`` sets
EVERY_USER = "*"
# no slash, backslash or control character: a name is a part of addresses and of the environment
PROVIDER_NAME_PATTERN = r"[^/\\\x00-\x1f\x7f-\x9f]{1,64}\Z"
DOCKER_SOCKET = "/run/workbench/docker.sock"
# JupyterHub's start timeout includes the wait in the queue; the launch after the grant has its own bound
MAX_WAIT_SECONDS = 7 * 24 * 3600


def build_workbench(settings: Settings, catalog_file: Path) -> Workbench:
    """Open the ledger, read the catalog, and build the workbench; raises SettingsError, Unknown.

    The agent and Docker are not contacted yet.
    """
    catalog = load_catalog(catalog_file)
    ledger = open_ledger(settings)
    clock, agent = Clock(ledger), AgentClient(settings.agent_url)
    containers = Containers(DOCKER_SOCKET, settings.instance)
    controller = Controller(ledger, agent, containers, catalog, settings, clock)
    return Workbench(controller, ledger, agent, clock, catalog, settings, DATA)


def configure(c: Config, settings: Settings, workbench: Workbench, docs: Path) -> None:
    """Set every trait of JupyterHub that the workbench needs; the help pages are in the folder ``docs``.

    Raises SettingsError.
    """
    _configure_hub(c)
    _configure_origin(c, settings)
    _configure_queue(c, workbench)
    _configure_servers(c, settings, workbench)
    _configure_users(c, settings)
    count_failed_log_ins(workbench)
    if settings.authenticator != SITE:
        authenticator = _resolve_authenticator(settings.authenticator)
        c.JupyterHub.authenticator_class = _with_workbench(authenticator, workbench)
    c.JupyterHub.template_vars = {
        "has_sign_up": settings.authenticator == NATIVE,
        "claim_minutes": settings.claim_minutes,
        # JupyterHub calls a function here with the user; a page awaits the function that it returns
        "lease_of": lambda _user: functools.partial(build_lease_view, workbench),
        "disk_trouble": lambda user: workbench.disk.trouble if user and user.admin else None,
        "home_use": lambda user: workbench.disk.home_use(identify(user)) if user else None,
        "home_trouble": lambda user: workbench.disk.home_trouble(identify(user)) if user else None,
        # the navigation bar of an admin calls it
        "count_waiting": lambda user: functools.partial(count_waiting_for, user),
        "describe_scopes": lambda user: functools.partial(
            describe_scopes, user.name if user else ""
        ),
        "format_gpu_name": lambda _user: format_gpu_name,
        "help_pages": render_help_pages(docs),
        "workbench_version": VERSION,
    }


def configure_site(
    c: Config, settings: Settings, workbench: Workbench, folder: Path
) -> dict[str, Any]:
    """Read the site files of ``folder`` after ``configure``, and return the traits that they set.

    Raises SettingsError.
    """
    ours = c.JupyterHub.get("authenticator_class")
    workbench.bounds = load_bounds(folder / BOUNDS_FILE, settings.instance)
    changed = read_site_files(c, folder)
    chosen = c.JupyterHub.get("authenticator_class")
    if settings.authenticator == SITE:
        if not isinstance(chosen, type):
            raise SettingsError(
                "WORKBENCH_AUTHENTICATOR=site needs c.JupyterHub.authenticator_class in site.py: set it, "
                "or choose another authenticator."
            )
        c.JupyterHub.authenticator_class = _with_workbench(chosen, workbench)
    elif chosen is not ours:
        raise SettingsError(
            "The site files set c.JupyterHub.authenticator_class: set WORKBENCH_AUTHENTICATOR=site as well, "
            "so that the hub may connect to the provider of log-ins."
        )
    return changed


def start_background_tasks(workbench: Workbench) -> None:
    """Start the background tasks of the hub that is reading its configuration.

    A subcommand such as ``jupyterhub upgrade-db`` reads the same file but is no hub: it starts nothing.
    """
    if JupyterHub.initialized():
        base_path = workbench.settings.base_path
        run_background_tasks(workbench, f"http://127.0.0.1:{HUB_PORT}{base_path}hub/api")


def run_background_tasks(workbench: Workbench, api: str) -> None:
    """Start the background tasks, in the running event loop, for the hub with the REST API ``api``."""
    workbench.metrics.publish()
    idle_release = IdleRelease(workbench, api)
    workbench.idle_tracker.on_idle = idle_release.begin
    workbench.closed_listeners.append(idle_release.restart_without_gpus)
    workbench.run_in_background(
        supervise(workbench.controller),
        supervise(workbench.gpu_sampler),
        supervise(workbench.disk),
        resume_queue(workbench, api),
    )


def _configure_hub(c: Config) -> None:
    reduce_orm_queries()
    answer_unavailable()
    bind_sessions()
    c.JupyterHub.hub_bind_url = f"http://0.0.0.0:{HUB_PORT}"
    c.JupyterHub.hub_connect_url = f"http://hub:{HUB_PORT}"
    c.JupyterHub.db_url = HUB_DATABASE
    c.JupyterHub.db_kwargs = {
        "pool_events": [(relax_sqlite_durability, "connect")],
        # an operation in progress waits for a locked database; new requests are rejected, see ``unavailable``
        "connect_args": {"timeout": PATIENCE_SECONDS, "check_same_thread": False},
    }
    c.JupyterHub.cookie_secret_file = str(DATA / "jupyterhub_cookie_secret")
    c.JupyterHub.cleanup_servers = False  # servers survive a restart of the hub
    # a request in the queue is a pending spawn; Workbench.launch_slots bounds the containers that start at once
    c.JupyterHub.concurrent_spawn_limit = 0
    # NativeAuthenticator adds its templates to the first hub of a process only
    c.JupyterHub.template_paths = [str(TEMPLATES), nativeauthenticator.handlers.TEMPLATE_DIR]
    # the workbench's log lines appear among JupyterHub's
    c.JupyterHub.logging_config = {
        "filters": {"refusals": {"()": "spawner.hub.refusal.without_traceback"}},
        "handlers": {"console": {"filters": ["refusals"]}},
        "loggers": {"spawner": {"level": "INFO", "handlers": ["console"]}},
    }
    c.JupyterHub.proxy_class = ConfigurableHTTPProxy
    # the proxy is a separate process; both read CONFIGPROXY_AUTH_TOKEN
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = "http://proxy-api:8001"


def _configure_origin(c: Config, settings: Settings) -> None:
    set_page_headers(settings)
    confirm_orders(frozenset(scopes.OF_EVERY_USER))
    c.JupyterHub.jinja_environment_options = {"extensions": [ScriptNonces]}
    # Lax, not Strict: a link in a chat leads to a page, not to the log-in
    cookie = {"samesite": "Lax", "secure": settings.is_https}
    c.JupyterHub.tornado_settings = {
        "cookie_options": cookie,
        "xsrf_cookie_kwargs": {**cookie, "httponly": True},
    }
    if settings.public_url:
        c.JupyterHub.base_url = settings.base_path
        c.JupyterHub.public_url = f"{settings.origin}{settings.base_path}"
    if settings.user_domains:
        c.JupyterHub.subdomain_host = settings.origin
        # a user's host can set cookies for the hub's; a cookie with the prefix is the hub's own
        c.JupyterHub.cookie_host_prefix_enabled = settings.is_https


def _configure_queue(c: Config, workbench: Workbench) -> None:
    c.JupyterHub.custom_scopes = scopes.DEFINITIONS
    c.JupyterHub.extra_user_scopes = scopes.OF_EVERY_USER
    c.JupyterHub.services = [
        {"name": SERVICE, "api_token": workbench.service_token, "display": False}
    ]
    c.JupyterHub.trust_user_provided_tokens = True  # the only such token has 256 random bits
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
    # a server's token may report activity, authenticate its visitors, and use its own lease
    c.Spawner.server_token_scopes = [
        "users:activity!user",
        "access:servers!server",
        scopes.OF_A_SERVER,
    ]


def _configure_users(c: Config, settings: Settings) -> None:
    c.Authenticator.admin_users = {settings.admin}
    _configure_provider(c, settings)
    if settings.authenticator != NATIVE:
        return
    # only an approved account can authenticate: the approvals are the list of allowed users
    c.ApprovedSignUp.allow_all = True
    c.ApprovedSignUp.open_signup = False
    c.ApprovedSignUp.username_pattern = NAME_PATTERN
    c.ApprovedSignUp.max_sign_ups = settings.max_sign_ups
    c.ApprovedSignUp.trusted_proxies = [*settings.trusted_proxies]


def _configure_provider(c: Config, settings: Settings) -> None:
    """Set what every authenticator of ``oauthenticator`` reads, and all of the one that settings alone describe."""
    c.OAuthenticator.enable_auth_state = True  # encrypted with JUPYTERHUB_CRYPT_KEY
    c.OAuthenticator.http_request_kwargs = {
        "connect_timeout": CONNECT_SECONDS,
        "request_timeout": REQUEST_SECONDS,
    }
    if settings.public_url:
        c.OAuthenticator.oauth_callback_url = (
            f"{settings.origin}{settings.base_path}hub/oauth_callback"
        )
    if settings.oauth_client_id:
        c.OAuthenticator.client_id = settings.oauth_client_id
    if settings.oauth_client_secret_file:
        if not os.environ.get(CLIENT_SECRET):
            raise SettingsError(
                f"The hub has no client secret: write it to {settings.oauth_client_secret_file} "
                "(WORKBENCH_OAUTH_CLIENT_SECRET_FILE) and run scripts/up."
            )
        c.OAuthenticator.client_secret = os.environ[CLIENT_SECRET]
    if not settings.has_openid:
        return
    users = frozenset(settings.oauth_allowed_users)
    c.ProviderSignIn.issuer = settings.oauth_issuer
    c.GenericOAuthenticator.login_service = settings.oauth_service
    c.GenericOAuthenticator.scope = [*settings.oauth_scopes]
    c.GenericOAuthenticator.username_claim = settings.oauth_username_claim
    c.GenericOAuthenticator.username_pattern = PROVIDER_NAME_PATTERN
    c.GenericOAuthenticator.manage_groups = True
    c.GenericOAuthenticator.auth_state_groups_key = f"oauth_user.{settings.oauth_groups_claim}"
    c.GenericOAuthenticator.allow_all = EVERY_USER in users
    c.GenericOAuthenticator.allowed_users = {*users - {EVERY_USER}}
    c.GenericOAuthenticator.allowed_groups = {*settings.oauth_allowed_groups}
    c.GenericOAuthenticator.admin_groups = {*settings.oauth_admin_groups}


def _with_workbench(
    authenticator: type[Authenticator], workbench: Workbench
) -> type[Authenticator]:
    """Return ``authenticator`` with the workbench's routes and, for one of ``oauthenticator``, its rules."""
    if issubclass(authenticator, OAuthenticator):
        authenticator = with_provider_rules(authenticator, lambda: workbench)
    return with_workbench_routes(authenticator, lambda: workbench)


def _resolve_authenticator(name: str) -> type[Authenticator]:
    if name == NATIVE:
        return ApprovedSignUp
    try:
        found: type[Authenticator] = JupyterHub.authenticator_class.validate(None, name)
    except TraitError as error:
        raise SettingsError(
            f"WORKBENCH_AUTHENTICATOR={name} cannot be used: no authenticator with this name is installed."
        ) from error
    return found
