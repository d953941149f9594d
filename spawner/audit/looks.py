"""Reads the three places that have to agree: Docker through the broker, the ledger and the hub's database.

Nothing is ever written, and whatever cannot be read, for whatever reason, raises ``Unknown``.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from spawner.audit.rules import SeenContainer, SeenServer, World
from spawner.model import Account, Cause, Lease, LeaseState, Unknown
from spawner.policy import names
from spawner.policy.container import LABEL_ROLE, ROLE_SERVER

ANSWER_SECONDS = 30.0
CDI_PREFIX = "nvidia.com/gpu="
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LEASES = "SELECT * FROM leases WHERE state != 'closed' OR cause IS NULL"
_SERVERS = """
SELECT users.name AS user, spawners.name AS name, servers.ip AS host
FROM spawners JOIN users ON users.id = spawners.user_id JOIN servers ON servers.id = spawners.server_id
WHERE servers.ip != ''
"""  # a server that is only starting has no address yet


@dataclass(frozen=True)
class Places:
    """Where to look; the databases are SQLite URLs, ``first_uid`` is what account number 0 would have."""

    instance: str
    first_uid: int
    docker_socket: Path
    ledger_url: str
    hub_database_url: str


def look(places: Places) -> World:
    """Return what all three say now; raises Unknown when one of them does not."""
    try:
        containers = tuple(_running(places.docker_socket))
        with _database(places.ledger_url) as ledger:
            leases = tuple(_as_lease(row) for row in ledger.execute(_LEASES))
            claims = {
                row["gpu_uuid"]: row["lease_id"] for row in ledger.execute("SELECT * FROM claims")
            }
            accounts = [
                Account(places.first_uid + row["number"], row["user"], is_home_prepared=True)
                for row in ledger.execute("SELECT * FROM accounts WHERE is_home_prepared")
            ]
            beat = ledger.execute("SELECT * FROM heartbeat").fetchone()
            now = read_lease_time(None if beat is None else dict(beat))
        with _database(places.hub_database_url) as hub:
            servers = tuple(SeenServer(*row) for row in hub.execute(_SERVERS))
        homes = {account: _has_home(places, account) for account in accounts}
    except sqlite3.Error as error:
        raise Unknown(f"A database cannot be read: {error}.") from error
    # an answer, but not of the shape that it has to have
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unknown(f"What was read makes no sense: {error!r}.") from error
    return World(places.instance, now, containers, leases, claims, homes, servers)


def _running(docker_socket: Path) -> Iterator[SeenContainer]:
    _, listed = _ask(docker_socket, "/containers/json?all=1")
    for row in listed:
        if row["Labels"].get(LABEL_ROLE) == ROLE_SERVER and row["State"] == "running":
            status, seen = _ask(docker_socket, f"/containers/{row['Id']}/json", may_lack=True)
            if status == 200:  # else it has gone since
                given = seen["HostConfig"].get("DeviceRequests") or []
                yield SeenContainer(row["Names"][0].removeprefix("/"), frozenset(_uuids(given)))


def _uuids(given: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for request in given:
        if not request["DeviceIDs"]:
            raise ValueError("a container that was given GPUs by their number")
        yield from (device.removeprefix(CDI_PREFIX) for device in request["DeviceIDs"])


def _has_home(places: Places, account: Account) -> bool:
    volume = names.home_volume(places.instance, account.user, account.uid)
    status, seen = _ask(places.docker_socket, f"/volumes/{volume}", may_lack=True)
    return status == 200 and str(seen["Name"]) == volume


def _ask(docker_socket: Path, path: str, *, may_lack: bool = False) -> tuple[int, Any]:
    """Return status (200, or 404 in Docker's own words where it ``may_lack``) and answer."""
    try:
        with closing(_Connection(docker_socket)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            raw = response.read()
    except (HTTPException, OSError) as error:
        raise Unknown(f"Docker cannot be asked at {docker_socket}: {error}.") from error
    answer = json.loads(raw)
    is_lacking = response.status == 404 and "no such" in answer["message"].lower()
    if response.status != 200 and not (may_lack and is_lacking):
        raise Unknown(f"Docker answered {response.status} to {path}: {answer['message']}")
    return response.status, answer


class _Connection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(str(self._path))


@contextmanager
def _database(url: str) -> Iterator[sqlite3.Connection]:
    """Open one consistent view of a database that must already be there, read-only."""
    path = Path(url.removeprefix("sqlite:///"))
    if not path.is_file():
        raise Unknown(f"There is no database at {path}.")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=ANSWER_SECONDS,
        isolation_level=None,
    )
    with closing(connection):
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        yield connection


def _as_lease(row: sqlite3.Row) -> Lease:
    values = {field.name: row[field.name] for field in fields(Lease)}
    return Lease(
        **{
            **values,
            "gpu_uuids": tuple(json.loads(row["gpu_uuids"])),
            "state": LeaseState(row["state"]),
            "cause": None if row["cause"] is None else Cause(row["cause"]),
        }
    )


def read_lease_time(heartbeat: Mapping[str, Any] | None) -> float:
    """Return the time of the clock by which leases are counted, whether a hub runs or not."""
    if heartbeat is None:
        return time.time()
    if heartbeat["boot_id"] == BOOT_ID.read_text().strip():
        return float(time.clock_gettime(time.CLOCK_BOOTTIME) + heartbeat["offset_seconds"])
    return max(time.time(), float(heartbeat["at"]))
