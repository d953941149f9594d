"""Measures container start to first answer: the release image against a plain JupyterLab.

The two images alternate, so that whatever slows the machine slows both; only ratios are compared.
Usage: ``python -m benchmarks.lab_start [--image NAME] [--repeat N] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import json
import os
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from testing.ports import free_port

PLAIN_IMAGE = "workbench-bench-plain-lab"
CA_BUNDLE = os.environ.get("WORKBENCH_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
TOKEN = "benchmark"  # noqa: S105
DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Start:
    """One way to start a server, and the path whose first 200 ends the measurement."""

    name: str
    arguments: tuple[str, ...]
    path: str


LAB = Start(
    "jupyter lab", ("jupyter", "lab", "--ip=0.0.0.0", "--no-browser"), f"/lab?token={TOKEN}"
)
SINGLE_USER = Start("jupyterhub-singleuser", ("jupyterhub-singleuser",), "/user/bench/api")


class StubHub(http.server.BaseHTTPRequestHandler):
    """Answers what a single-user server asks its hub while it starts."""

    def do_GET(self) -> None:
        """Serve any GET with a hub's version."""
        body = b'{"version": "6.1.1"}'
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""


def docker(*arguments: str) -> str:
    """Run docker and return its output; a failure raises with what docker said."""
    done = subprocess.run(["docker", *arguments], check=True, text=True, capture_output=True)  # noqa: S603, S607
    return done.stdout.strip()


def build_plain_image() -> None:
    """Build the plain image; quick when Docker still has it."""
    secret = ("--secret", f"id=ca,src={CA_BUNDLE}") if Path(CA_BUNDLE).exists() else ()
    docker("build", "--quiet", *secret, "--tag", PLAIN_IMAGE, str(Path(__file__).parent))


def hub_environment(hub_port: int) -> list[str]:
    """Return the docker arguments a hub would give its single-user server."""
    hub = f"http://hub:{hub_port}/hub"
    environment = {
        "JUPYTER_TOKEN": TOKEN,
        "JUPYTERHUB_API_TOKEN": TOKEN,
        "JUPYTERHUB_API_URL": f"{hub}/api",
        "JUPYTERHUB_ACTIVITY_URL": f"{hub}/api/users/bench/activity",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-bench",
        "JUPYTERHUB_HOST": "",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/bench/oauth_callback",
        "JUPYTERHUB_SERVICE_PREFIX": "/user/bench/",
        "JUPYTERHUB_SERVICE_URL": "http://0.0.0.0:8888/user/bench/",
        "JUPYTERHUB_USER": "bench",
    }
    return [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]


def answers(port: int, path: str) -> bool:
    """Return whether the path is served with 200 now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def measure_start(image: str, start: Start, hub_port: int) -> float:
    """Return the seconds from ``docker start`` to the first 200; the container is removed."""
    port = free_port()
    container = docker(
        "create",
        "--init",
        "--user=1000:1000",
        "--add-host=hub:host-gateway",
        f"--publish=127.0.0.1:{port}:8888",
        *hub_environment(hub_port),
        image,
        *start.arguments,
    )
    try:
        begin = time.perf_counter()
        docker("start", container)
        while not answers(port, start.path):
            if time.perf_counter() - begin > DEADLINE_SECONDS:
                raise TimeoutError(docker("logs", container))
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - begin
    finally:
        docker("rm", "--force", container)


def compare(image: str, start: Start, repeat: int, hub_port: int) -> dict[str, object]:
    """Alternate plain and release; return both medians (seconds) and their ratio."""
    plain: list[float] = []
    release: list[float] = []
    for name in (PLAIN_IMAGE, image):
        measure_start(name, start, hub_port)
    for _ in range(repeat):
        plain.append(measure_start(PLAIN_IMAGE, start, hub_port))
        release.append(measure_start(image, start, hub_port))
    medians = statistics.median(plain), statistics.median(release)
    return {
        "start": start.name,
        "repeat": repeat,
        "plain_median_seconds": round(medians[0], 3),
        "release_median_seconds": round(medians[1], 3),
        "release_worst_seconds": round(max(release), 3),
        "ratio": round(medians[1] / medians[0], 3),
    }


def main() -> None:
    """Print one line per way to start, and write them as JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--image", default="pytorch-cuda:v2.7")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    build_plain_image()
    hub = http.server.ThreadingHTTPServer(("0.0.0.0", 0), StubHub)  # noqa: S104
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    rows = []
    for start in (LAB, SINGLE_USER):
        row = compare(options.image, start, options.repeat, hub.server_address[1])
        rows.append(row)
        print(
            f"{row['start']:22} plain {row['plain_median_seconds']} s,"
            f" release {row['release_median_seconds']} s, ratio {row['ratio']}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
