"""Site policy: the traits that a site file cannot set, each with the setting or way to use instead.

Every trait that `configure` sets is refused, merged or open. A test walks them, so that none is without a decision.
"""

from __future__ import annotations

from collections.abc import Mapping

_COMPOSE = "docker-compose.yml fixes the addresses of the services"
_TLS = "WORKBENCH_PUBLIC_URL and the proxy before the workbench are for TLS"
_LEASE = "the lease protocol depends on it"
_SERVERS = "the workbench builds each server from its lease"
_PAGES = "the form of the workbench asks for releases and GPUs"

REFUSED: Mapping[str, Mapping[str, str]] = {
    "JupyterHub": {
        "base_url": _COMPOSE,
        "bind_url": "use WORKBENCH_BIND and WORKBENCH_PORT",
        "ip": "use WORKBENCH_BIND",
        "port": "use WORKBENCH_PORT",
        "hub_bind_url": _COMPOSE,
        "hub_connect_url": _COMPOSE,
        "hub_connect_ip": _COMPOSE,
        "hub_connect_port": _COMPOSE,
        "hub_ip": _COMPOSE,
        "hub_port": _COMPOSE,
        "hub_routespec": _COMPOSE,
        "hub_socket_mode": _COMPOSE,
        "public_url": "use WORKBENCH_PUBLIC_URL",
        "subdomain_host": "use WORKBENCH_USER_DOMAINS",
        "subdomain_hook": "use WORKBENCH_USER_DOMAINS",
        "cookie_host_prefix_enabled": "use WORKBENCH_USER_DOMAINS",
        "ssl_cert": _TLS,
        "ssl_key": _TLS,
        "internal_ssl": _TLS,
        "trusted_downstream_ips": "use WORKBENCH_TRUSTED_PROXIES",
        "db_url": "the hub's database lies in the data volume; the ledger's is WORKBENCH_LEDGER_URL",
        "db_kwargs": "the hub's database lies in the data volume; the ledger's is WORKBENCH_LEDGER_URL",
        "reset_db": "scripts/down --purge removes all data",
        "upgrade_db": "docs/backup-upgrade.md describes an upgrade",
        "cookie_secret": "the hub keeps its own in the data volume",
        "cookie_secret_file": "the hub keeps its own in the data volume",
        "cleanup_servers": "servers survive a restart of the hub",
        "cleanup_proxy": "the proxy survives a restart of the hub",
        "concurrent_spawn_limit": "a request in the queue is a pending spawn; the workbench bounds starts by itself",
        "spawner_class": _SERVERS,
        "proxy_class": _COMPOSE,
        "proxy_auth_token": "scripts/up makes the proxy's token",
        "proxy_cmd": _COMPOSE,
        "allow_named_servers": "use WORKBENCH_NAMED_SERVERS",
        "named_server_limit_per_user": "use WORKBENCH_NAMED_SERVERS",
        "trust_user_provided_tokens": "the service of the workbench needs it",
        "jinja_environment_options": "the pages need the workbench's own extension",
        "logging_config": "use c.JupyterHub.log_level",
        "config_file": "the hub reads site.py and config.d alone",
        "extra_user_scopes": "the workbench's own scopes depend on it; use c.JupyterHub.load_roles",
    },
    "ConfigurableHTTPProxy": {
        "should_start": "the proxy is a service of docker-compose.yml",
        "api_url": _COMPOSE,
        "auth_token": "scripts/up makes the proxy's token",
        "command": "the proxy is a service of docker-compose.yml",
    },
    "Spawner": {
        "get_workbench": _SERVERS,
        "answer_timeout": "use WORKBENCH_START_TIMEOUT",
        "start_timeout": "use WORKBENCH_START_TIMEOUT",
        "poll_interval": _LEASE,
        "poll_jitter": _LEASE,
        "consecutive_failure_limit": "one user's failures must not stop the hub",
        "ip": _SERVERS,
        "port": _SERVERS,
        "cmd": _SERVERS,
        "args": _SERVERS,
        "environment": _SERVERS,
        "mem_limit": "use WORKBENCH_MEMORY_LIMIT",
        "cpu_limit": "use WORKBENCH_CPU_LIMIT",
        "mem_guarantee": "Docker guarantees no memory; use WORKBENCH_MEMORY_LIMIT",
        "cpu_guarantee": "Docker guarantees no CPUs; use WORKBENCH_CPU_LIMIT",
        "group_overrides": _SERVERS,
        "env_keep": "nothing of the hub's environment reaches a server",
        "server_token_scopes": "the rights of a server's token are fixed",
        "hub_connect_url": _COMPOSE,
        "options_form": _PAGES,
        "options_from_form": _PAGES,
        "apply_user_options": _PAGES,
        "ssl_alt_names": _TLS,
        "ssl_alt_names_include_local": _TLS,
    },
    "ApprovedSignUp": {
        "allow_all": "only an approved account can log in",
        "open_signup": "only an approved account can log in",
        "username_pattern": "names of users are names of homes",
        "max_sign_ups": "use WORKBENCH_MAX_SIGN_UPS",
        "trusted_proxies": "use WORKBENCH_TRUSTED_PROXIES",
    },
}
"""By class: trait and the sentence's end. The traits of Spawner hold for every class of spawner."""

TEMPLATES = ("JupyterHub", "template_paths")
MERGED = (
    TEMPLATES,
    ("JupyterHub", "services"),
    ("JupyterHub", "load_roles"),
    ("JupyterHub", "custom_scopes"),
    ("JupyterHub", "template_vars"),
    ("JupyterHub", "tornado_settings"),
    ("Authenticator", "admin_users"),
)
"""Traits to which a site file adds; the workbench's own entries stay."""

OPEN = (
    ("JupyterHub", "authenticator_class"),  # with WORKBENCH_AUTHENTICATOR=site alone
    ("Spawner", "http_timeout"),
    ("Spawner", "default_url"),
    ("OAuthenticator", "enable_auth_state"),
    ("OAuthenticator", "http_request_kwargs"),
    ("OAuthenticator", "oauth_callback_url"),
    ("OAuthenticator", "client_id"),
    ("OAuthenticator", "client_secret"),
)
"""Traits that the workbench sets, and a site file may set otherwise."""

_SPAWNERS = ("Spawner", "DockerSpawner", "WorkbenchSpawner")


def explain_refusal(section: str, trait: str) -> str | None:
    """Return the end of the sentence that refuses ``c.SECTION.TRAIT``, None if a site file may set it."""
    if section in _SPAWNERS:
        return REFUSED["Spawner"].get(trait)
    return REFUSED.get(section, {}).get(trait)
