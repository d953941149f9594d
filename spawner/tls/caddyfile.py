"""Caddyfile: builds the configuration of the TLS service from the settings."""

from __future__ import annotations

from spawner.settings import Settings

CERTIFICATE, KEY = "/run/secrets/certificate.pem", "/run/secrets/key.pem"
HTTP_PORT, HTTPS_PORT = 8080, 8443
"""Ports inside the container; its user may not open those below 1024."""
HSTS_SECONDS = 365 * 24 * 3600

# no event stream: its events would wait until a block is full
COMPRESSED = (
    "text/html*",
    "text/css*",
    "text/plain*",
    "text/csv*",
    "text/javascript*",
    "application/javascript*",
    "application/json*",
    "application/x-ipynb+json*",
    "application/vnd.jupyter*",
    "application/wasm*",
    "image/svg+xml*",
)
AWAY = '{"status":503,"message":"The workbench restarts; try again in a moment."}'


def hosts(settings: Settings) -> tuple[str, ...]:
    """Return the hosts that the certificate is for."""
    users = (f"*.{settings.host}",) if settings.user_domains else ()
    return (settings.host, *users)


def build_caddyfile(settings: Settings, upstream: str = "proxy:8000") -> str:
    """Return the configuration for ``settings``, whose ``tls`` is ``files`` or ``acme``."""
    port = "" if settings.https_port == 443 else f":{settings.https_port}"
    host = "{host}" if settings.user_domains else settings.host
    sites = ", ".join(f"https://{host}" for host in hosts(settings))
    encoded = "\n".join(f"\t\t\theader Content-Type {kind}" for kind in COMPRESSED)
    trusted = (
        f"\n\t\ttrusted_proxies {' '.join(settings.trusted_proxies)}"
        if settings.trusted_proxies
        else ""
    )
    return f"""\
{{
{_global_options(settings)}
}}

http:// {{
	redir https://{host}{port}{{uri}} 308
}}

{sites} {{
{_certificate(settings)}	header {{
		Strict-Transport-Security "max-age={HSTS_SECONDS}"
		-Server
	}}
	encode gzip {{
		minimum_length 1024
		match {{
{encoded}
		}}
	}}
	reverse_proxy {upstream} {{
		transport http {{
			keepalive_idle_conns_per_host 256
		}}{trusted}
	}}
	handle_errors {{
		header {{
			Workbench-Hub away
			Retry-After 5
			Cache-Control no-store
			X-Content-Type-Options nosniff
		}}
		@page header Accept *text/html*
		handle @page {{
			root * /srv
			rewrite * /hub-away.html
			file_server {{
				status 503
			}}
		}}
		handle {{
			header Content-Type application/json
			respond `{AWAY}` 503
		}}
	}}
}}
"""


def _global_options(settings: Settings) -> str:
    lines = [
        "admin off",
        # the redirects are those of this file, to the public port
        f"auto_https {'off' if settings.tls == 'files' else 'disable_redirects'}",
        f"http_port {HTTP_PORT}",
        f"https_port {HTTPS_PORT}",
        # no HTTP/3: no UDP port is published
        "servers {\n\t\tprotocols h1 h2\n\t}",
    ]
    if settings.acme_email:
        lines.append(f"email {settings.acme_email}")
    if settings.acme_directory:
        lines.append(f"acme_ca {settings.acme_directory}")
    return "\n".join(f"\t{line}" for line in lines)


def _certificate(settings: Settings) -> str:
    return f"\ttls {CERTIFICATE} {KEY}\n" if settings.tls == "files" else ""
