"""Caddyfile: what is built for each way is accepted by Caddy, and says what the settings say."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from spawner.settings import Settings
from spawner.tls.caddyfile import CERTIFICATE, KEY, build_caddyfile
from testing.certificates import Authority

URL = "https://gpu.lab.test:9443"
FILES = {"TLS": "files", "TLS_CERTIFICATE": "/etc/c.pem", "TLS_KEY": "/etc/k.pem"}
ACME = {"TLS": "acme", "ACME_EMAIL": "ops@lab.test", "ACME_DIRECTORY": "https://ca.lab.test/acme"}
USERS = {**FILES, "USER_DOMAINS": "yes"}
TRUSTED = {**FILES, "TRUSTED_PROXIES": "10.0.0.1 fd00::/64", "PUBLIC_URL": "https://10.0.0.9/gpu"}


def build(**settings: str) -> str:
    variables = {"PUBLIC_URL": URL, **settings}
    return build_caddyfile(
        Settings.from_environ({f"WORKBENCH_{name}": value for name, value in variables.items()})
    )


def adapt(text: str) -> dict[str, Any]:
    command = ["caddy", "adapt", "--config", "/dev/stdin", "--adapter", "caddyfile"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
    apps: dict[str, Any] = json.loads(done.stdout)["apps"]
    return apps


@pytest.mark.parametrize("settings", [FILES, ACME, USERS, TRUSTED])
def test_caddy_accepts_it(settings: dict[str, str], tmp_path: Path) -> None:
    pair = Authority().issue("gpu.lab.test")
    (tmp_path / "c").write_bytes(pair.certificate)
    (tmp_path / "k").write_bytes(pair.key)
    file = tmp_path / "Caddyfile"
    text = build(**settings)
    file.write_text(text.replace(CERTIFICATE, f"{tmp_path}/c").replace(KEY, f"{tmp_path}/k"))
    done = subprocess.run(
        ["caddy", "validate", "--config", file, "--adapter", "caddyfile"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "not formatted" not in done.stderr


def test_http_leads_to_the_public_host_and_port() -> None:
    assert "redir https://gpu.lab.test:9443{uri} 308" in build(**FILES)
    assert "redir https://{host}:9443{uri} 308" in build(**USERS)
    assert "redir https://10.0.0.9{uri} 308" in build(**TRUSTED)


def test_a_certificate_of_files_needs_no_authority() -> None:
    servers = adapt(build(**USERS))["http"]["servers"].values()
    assert all(server["automatic_https"]["disable"] for server in servers)
    assert "acme" not in build(**USERS)
    (issuer,) = adapt(build(**ACME))["tls"]["automation"]["policies"][0]["issuers"][:1]
    assert (issuer["ca"], issuer["email"]) == ("https://ca.lab.test/acme", "ops@lab.test")


def test_event_streams_are_not_compressed() -> None:
    encoded = [line for line in build(**FILES).splitlines() if "header Content-Type text/" in line]
    assert encoded
    assert not [line for line in encoded if "text/*" in line or "event-stream" in line]


def test_forwarded_addresses_count_from_trusted_proxies_only() -> None:
    assert "trusted_proxies" not in build(**FILES)
    assert "\t\ttrusted_proxies 10.0.0.1/32 fd00::/64\n" in build(**TRUSTED)
