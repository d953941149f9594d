"""Installing Docker on Debian 12: the source for Debian 13's packages, and the real installation with apt."""

import json
import os
import shlex

import pytest

from tests.scripts.conftest import BareMachine

LIB = """
set -euo pipefail
repository=$PWD lib=$PWD/scripts/lib
for part in terminal settings packages docker install-docker; do . "$lib/$part.sh"; done
"""

DEB822 = """\
# main
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
Check-Valid-Until: no

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
INLINE_KEY = """\
Types: deb
URIs: https://mirror.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            DEB822,
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\nCheck-Valid-Until: no\n",
        ),
        (INLINE_KEY, INLINE_KEY.replace("bookworm", "trixie")),
        (DEB822.replace("Types: deb\n", "Types: deb-src\n"), ""),
        (
            DEB822.replace(
                "Types: deb\nURIs: http://mirror.example/debian\n",
                "Enabled: no\nTypes: deb\nURIs: x\n",
            ),
            "",
        ),
        (DEB822.replace("bookworm bookworm-updates", "bullseye"), ""),
    ],
)
def test_a_deb822_source_is_taken_over(machine: BareMachine, text: str, expected: str) -> None:
    machine.files["/source"] = text
    assert machine.run(LIB + "trixie_stanza bookworm /source").stdout == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "deb http://mirror.example/debian bookworm main contrib",
            "deb http://mirror.example/debian trixie main\n",
        ),
        (
            "deb [arch=amd64 signed-by=/k.gpg] http://m/debian bookworm main",
            "deb [arch=amd64 signed-by=/k.gpg] http://m/debian trixie main\n",
        ),
        ("# deb http://m/debian bookworm main", ""),
        ("deb-src http://m/debian bookworm main", ""),
        ("deb http://m/debian-security bookworm-security main", ""),
    ],
)
def test_a_one_line_source_is_taken_over(machine: BareMachine, line: str, expected: str) -> None:
    machine.files["/source"] = line + "\n"
    assert machine.run(LIB + "trixie_line bookworm /source").stdout == expected


def test_another_distribution_sees_what_to_install(machine: BareMachine) -> None:
    machine.files["/usr/lib/os-release"] = "ID=fedora\nVERSION_CODENAME=\n"
    outcome = machine.run(LIB + "install_docker")
    assert outcome.code == 1
    assert outcome.error.startswith("error: Docker can be installed automatically on Debian only:")
    assert not {path for path in outcome.changed if path.startswith("/etc")}


def test_docker_is_really_installed_and_nothing_else_changes(machine: BareMachine) -> None:
    """Takes Docker from Debian's mirror; then jq merges CDI into settings that were there."""
    machine.network = "bridge"
    machine.environment |= {
        name: os.environ[name] for name in ("http_proxy", "https_proxy") if name in os.environ
    }
    settings = {"log-driver": "local", "features": {"buildkit": True}}
    merge = f"mkdir -p /etc/docker; echo {shlex.quote(json.dumps(settings))} >/etc/docker/daemon.json; enable_cdi"
    listing = "dpkg-query -W -f '${Package}=${Version}\\n'"
    outcome = machine.run(
        f"{LIB}{listing} >/tmp/before; install_docker; {listing} >/tmp/after\n"
        f"has_compose docker && docker buildx version\n{merge}\n"
        "echo; cat /etc/docker/daemon.json; echo; echo BEFORE; cat /tmp/before; echo AFTER; cat /tmp/after"
    )
    assert outcome.code == 0, outcome.stderr
    said, _, rest = outcome.stdout.partition("BEFORE\n")
    before, after = (
        dict(line.split("=", 1) for line in part.split()) for part in rest.split("AFTER\n")
    )
    replaced = {name for name, version in before.items() if after[name] != version}
    assert replaced <= {"debian-archive-keyring"}
    assert "Installing Docker Engine" in said
    assert int(after["docker.io"].split(".")[0]) >= 25
    merged = json.loads(said[said.index("{") :])
    assert merged == {"log-driver": "local", "features": {"buildkit": True, "cdi": True}}
