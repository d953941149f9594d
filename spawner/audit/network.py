"""Network probes of the auditor: has two containers try the walls of the users' network, through the broker.

A failed attempt is ``Unknown``, never clean: the peer has to answer the hub before a wall counts as one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from spawner.audit.probes import UnixConnection
from spawner.audit.rules import Finding, Rule
from spawner.model import Unknown
from spawner.network_probe import REACHED, SERVER_PORT, Attempt, Outcome, connect
from spawner.policy.probe_container import HUB_IMAGE, build_probes, probe_names

_HUB_API = "the hub's API"
_PEER_SECONDS = 10.0


def probe_network(docker_socket: Path, instance: str) -> tuple[Attempt, ...]:
    """Return what a user's container could reach; raises Unknown when it could not be tried."""
    image_id = str(_json(docker_socket, "GET", f"/images/{HUB_IMAGE}/json")["Id"])
    peer, probe = probe_names(instance)
    bodies = build_probes(instance, image_id)
    with _containers(docker_socket, bodies):
        _request(docker_socket, "POST", f"/containers/{peer}/start")
        _await_peer(peer)
        _request(docker_socket, "POST", f"/containers/{probe}/start")
        exit_code = _json(docker_socket, "POST", f"/containers/{probe}/wait")["StatusCode"]
        log = _request(docker_socket, "GET", f"/containers/{probe}/logs?stdout=1&stderr=1&tail=100")
    if exit_code != 0:
        raise Unknown(f"The network probe failed with exit code {exit_code}: {log[-200:]}")
    attempts = read_attempts(log)
    if not any(a.target == _HUB_API and a.outcome is Outcome.OPEN for a in attempts):
        raise Unknown("The network probe cannot reach the hub's API, so its walls prove nothing.")
    return attempts


def read_attempts(log: str) -> tuple[Attempt, ...]:
    """Return the attempts that the probe printed; raises Unknown."""
    try:
        rows = json.loads(log)
        return tuple(Attempt(**{**row, "outcome": Outcome(row["outcome"])}) for row in rows)
    except (LookupError, TypeError, ValueError) as error:
        raise Unknown(f"The network probe's answer cannot be read: {log[:200]!r}") from error


def list_reachable(attempts: tuple[Attempt, ...]) -> tuple[Finding, ...]:
    """Return one finding per way that must not be there."""
    return tuple(
        Finding(
            Rule.REACHABLE_FROM_SERVERS,
            f"{attempt.host}:{attempt.port}",
            f"A server reaches {attempt.target}: the connection was {attempt.outcome.value}.",
        )
        for attempt in attempts
        if attempt.target != _HUB_API and attempt.outcome in REACHED
    )


def _await_peer(peer: str) -> None:
    deadline = time.monotonic() + _PEER_SECONDS
    while asyncio.run(connect("a neighbour", peer, SERVER_PORT)).outcome is not Outcome.OPEN:
        if time.monotonic() >= deadline:
            raise Unknown("The hub cannot reach the network probe's peer: see docs/network.md.")
        time.sleep(0.1)


@contextmanager
def _containers(docker_socket: Path, bodies: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Create both containers, and remove them afterwards; those of a cut-off probe go first."""
    try:
        for name, body in bodies.items():
            _remove(docker_socket, name)
            _request(docker_socket, "POST", f"/containers/create?name={name}", body)
        yield
    finally:
        for name in bodies:
            _remove(docker_socket, name)


def _remove(docker_socket: Path, name: str) -> None:
    _request(docker_socket, "POST", f"/containers/{name}/stop?t=0", may_lack=True)
    _request(docker_socket, "DELETE", f"/containers/{name}", may_lack=True)


def _json(docker_socket: Path, method: str, path: str) -> dict[str, Any]:
    try:
        answer = json.loads(_request(docker_socket, method, path))
    except ValueError as error:
        raise Unknown(f"Docker's answer to {path} cannot be read.") from error
    if not isinstance(answer, dict):
        raise Unknown(f"Docker's answer to {path} is not a JSON object.")
    return answer


def _request(
    docker_socket: Path,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    may_lack: bool = False,
) -> str:
    raw = None if body is None else json.dumps(body)
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        with closing(UnixConnection(docker_socket)) as connection:
            connection.request(method, path, raw, headers)
            response = connection.getresponse()
            answer = response.read().decode(errors="replace")
    except (HTTPException, OSError) as error:
        raise Unknown(f"Docker cannot be asked at {docker_socket}: {error}.") from error
    is_missing = may_lack and response.status == 404
    if response.status >= 400 and not is_missing:
        raise Unknown(f"Docker answered {response.status} to {method} {path}: {answer[:200]}")
    return answer
