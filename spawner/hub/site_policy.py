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

_NAMES = "containers are named after their leases"
_CLIENT = "the broker alone speaks to Docker"
_NETWORK = "servers have one network with walls, described in docs/network.md"
_ALIAS = "it is a dead name of DockerSpawner; use"
_DOCKER_TRAITS: Mapping[str, str] = {
    "certs_volume_name": _TLS,
    "client_kwargs": _CLIENT,
    "container_image": "images/catalog.toml has the images; use WORKBENCH_RELEASES",
    "container_ip": _NETWORK,
    "container_name_template": _NAMES,
    "container_port": _SERVERS,
    "container_prefix": f"{_ALIAS} c.DockerSpawner.prefix",
    "extra_create_kwargs": _SERVERS,
    "host_ip": _NETWORK,
    "hub_ip_connect": _COMPOSE,
    "image": "images/catalog.toml has the images; use WORKBENCH_RELEASES",
    "image_whitelist": f"{_ALIAS} c.DockerSpawner.allowed_images",
    "links": "servers do not reach each other",
    "move_certs_image": _TLS,
    "name_template": _NAMES,
    "network_name": _NETWORK,
    "post_start_cmd": "nothing runs in a server but its user's programs; use a hook",
    "pull_policy": "scripts/up builds the images, and no start pulls one",
    "remove": "a lease is free only when its container is gone",
    "remove_containers": "a lease is free only when its container is gone",
    "tls": _CLIENT,
    "tls_assert_hostname": _CLIENT,
    "tls_ca": _CLIENT,
    "tls_cert": _CLIENT,
    "tls_config": _CLIENT,
    "tls_key": _CLIENT,
    "tls_verify": _CLIENT,
    "use_docker_client_env": _CLIENT,
    "use_internal_hostname": _NETWORK,
    "use_internal_ip": _NETWORK,
}
"""The traits of DockerSpawner that no site file sets."""

HONOURED = (
    "allowed_images",
    "cpu_limit",
    "escape",
    "extra_host_config",
    "format_volume_name",
    "mem_limit",
    "mounts",
    "prefix",
    "read_only_volumes",
    "volumes",
)
"""The traits of DockerSpawner that a site file sets."""

HARMLESS: Mapping[str, object] = {
    "remove": True,
    "pull_policy": "never",
    "use_internal_hostname": True,
}
"""Values that peers' files have, and that say what is so anyway."""

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
        "spawner_class": "the traits of DockerSpawner are set as c.DockerSpawner.…",
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
        "mem_guarantee": "Docker guarantees no memory; use c.DockerSpawner.mem_limit",
        "cpu_guarantee": "Docker guarantees no CPUs; use c.DockerSpawner.cpu_limit",
        "env_keep": "nothing of the hub's environment reaches a server; use c.DockerSpawner.environment",
        "server_token_scopes": "the rights of a server's token are fixed",
        "hub_connect_url": _COMPOSE,
        "options_form": _PAGES,
        "options_from_form": _PAGES,
        "apply_user_options": _PAGES,
        "ssl_alt_names": _TLS,
        "ssl_alt_names_include_local": _TLS,
        **_DOCKER_TRAITS,
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


def explain_refusal(section: str, trait: str, value: object = None) -> str | None:
    """Return the end of the sentence that refuses ``c.SECTION.TRAIT``, None if a site file may set it."""
    if section in _SPAWNERS and value is not None and HARMLESS.get(trait) == value:
        return None
    if section in _SPAWNERS:
        return REFUSED["Spawner"].get(trait)
    return REFUSED.get(section, {}).get(trait)
