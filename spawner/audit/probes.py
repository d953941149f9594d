"""Probes: reads the three sources that have to agree: Docker through the broker, the ledger and the hub's database.

A probe writes nothing. A source that cannot be read, for any reason, raises ``Unknown``.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from spawner.audit.rules import ObservedContainer, ObservedServer, ObservedState
from spawner.ledger.tables import VERSION
from spawner.model import Account, Cause, Lease, LeaseState, Unknown
from spawner.policy import names
from spawner.policy.container import LABEL_ROLE, ROLE_SERVER

ANSWER_SECONDS = 30.0
CDI_PREFIX = "nvidia.com/gpu="
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_VERSION = sa.text("SELECT version_num FROM ledger_version")
_LEASES = sa.text("SELECT * FROM leases WHERE state != 'closed' OR cause IS NULL").columns(
    gpu_uuids=sa.JSON, is_claimed=sa.Boolean
)
_ADOPTED = sa.text("SELECT subject FROM trail WHERE action = 'lease.adopted'")
_CLAIMS = sa.text("SELECT gpu_uuid, lease_id FROM claims")
_QUARANTINES = sa.text("SELECT gpu_uuid, since FROM quarantines WHERE returned_at IS NULL")
_DRAINS = sa.text("SELECT gpu_uuid, since FROM drains")
_HOMES = sa.text('SELECT number, "user" FROM accounts WHERE is_home_prepared')
_HEARTBEAT = sa.text("SELECT * FROM heartbeat")
_SERVERS = sa.text(
    "SELECT users.name, spawners.name, servers.ip FROM spawners "
    "JOIN users ON users.id = spawners.user_id JOIN servers ON servers.id = spawners.server_id "
    "WHERE servers.ip != ''"  # a starting server has no address yet
)
_USERS = sa.text("SELECT name FROM users")


@dataclass(frozen=True)
class ProbeTargets:
    """The sources to read: databases as SQLAlchemy URLs; account number N has the uid ``first_uid`` + N."""

    instance: str
    first_uid: int
    docker_socket: Path
    ledger_url: str
    hub_database_url: str


def probe(targets: ProbeTargets) -> ObservedState:
    """Return the state of all three sources; raises Unknown if one of them does not answer."""
    try:
        containers = tuple(_running(targets.docker_socket))
        with _database(targets.ledger_url) as ledger:
            _require_version(ledger)
            leases = tuple(_as_lease(row._asdict()) for row in ledger.execute(_LEASES))
            adopted = frozenset(
                row.subject.removeprefix("lease ") for row in ledger.execute(_ADOPTED)
            )
            claims = {row.gpu_uuid: row.lease_id for row in ledger.execute(_CLAIMS)}
            quarantined_at = {row.gpu_uuid: row.since for row in ledger.execute(_QUARANTINES)}
            drained_at = {row.gpu_uuid: row.since for row in ledger.execute(_DRAINS)}
            accounts = [
                Account(targets.first_uid + row.number, row.user, is_home_prepared=True)
                for row in ledger.execute(_HOMES)
            ]
            beat = ledger.execute(_HEARTBEAT).one_or_none()
            now = read_lease_time(None if beat is None else beat._asdict())
        with _database(targets.hub_database_url) as hub:
            servers = tuple(ObservedServer(*row) for row in hub.execute(_SERVERS))
            users = frozenset(row.name for row in hub.execute(_USERS))
        homes = {account: _has_home(targets, account) for account in accounts}
    except sa.exc.DBAPIError as error:
        sentence = " ".join(str(error.orig).split()).rstrip(".")
        raise Unknown(f"A database cannot be read: {sentence}.") from error
    # an answer with an unexpected shape
    except (AttributeError, LookupError, TypeError, ValueError, sa.exc.SQLAlchemyError) as error:
        raise Unknown(f"An answer has an unexpected shape: {error!r}.") from error
    return ObservedState(
        targets.instance,
        now,
        containers,
        leases,
        adopted,
        claims,
        quarantined_at,
        drained_at,
        homes,
        servers,
        users,
    )


def _running(docker_socket: Path) -> Iterator[ObservedContainer]:
    _, listed = _request(docker_socket, "/containers/json?all=1")
    for row in listed:
        if row["Labels"].get(LABEL_ROLE) == ROLE_SERVER and row["State"] == "running":
            status, seen = _request(
                docker_socket, f"/containers/{row['Id']}/json", may_be_missing=True
            )
            if status == 200:  # else it ended after the listing
                devices = seen["HostConfig"].get("DeviceRequests") or []
                yield ObservedContainer(
                    row["Names"][0].removeprefix("/"), frozenset(_uuids(devices))
                )


def _uuids(devices: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for request in devices:
        if not request["DeviceIDs"]:
            raise ValueError("a container has GPUs by count, not by UUID")
        yield from (device.removeprefix(CDI_PREFIX) for device in request["DeviceIDs"])


def _has_home(targets: ProbeTargets, account: Account) -> bool:
    volume = names.home_volume(targets.instance, account.user, account.uid)
    status, seen = _request(targets.docker_socket, f"/volumes/{volume}", may_be_missing=True)
    return status == 200 and str(seen["Name"]) == volume


def _request(docker_socket: Path, path: str, *, may_be_missing: bool = False) -> tuple[int, Any]:
    """Return the status (200, or with ``may_be_missing`` a 404 of Docker itself) and the answer."""
    try:
        with closing(UnixConnection(docker_socket)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            raw = response.read()
    except (HTTPException, OSError) as error:
        raise Unknown(f"Docker cannot be reached at {docker_socket}: {error}.") from error
    answer = json.loads(raw)
    is_missing = response.status == 404 and "no such" in answer["message"].lower()
    if response.status != 200 and not (may_be_missing and is_missing):
        raise Unknown(f"Docker answered {response.status} to {path}: {answer['message']}")
    return response.status, answer


class UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(str(self._path))


@contextmanager
def _database(url: str) -> Iterator[sa.Connection]:
    """Open one consistent, read-only view of an existing database."""
    parsed = sa.make_url(url)
    is_file = parsed.get_backend_name() == "sqlite"
    engine = _open_file(parsed) if is_file else _open_server(parsed)
    try:
        with engine.connect() as connection:
            if is_file:
                connection.exec_driver_sql("BEGIN")  # the driver begins no transaction for reads
            yield connection
    finally:
        engine.dispose()


def _open_file(url: sa.URL) -> sa.Engine:
    path = Path(url.database or "").absolute()
    if not path.is_file():
        raise Unknown(f"There is no database at {path}.")
    read_only = url.set(database=path.as_uri(), query={"mode": "ro", "uri": "true"})
    return sa.create_engine(read_only, connect_args={"timeout": ANSWER_SECONDS})


def _open_server(url: sa.URL) -> sa.Engine:
    options = f"-c default_transaction_read_only=on -c statement_timeout={int(ANSWER_SECONDS)}s"
    return sa.create_engine(
        url,
        isolation_level="REPEATABLE READ",
        connect_args={
            "connect_timeout": int(ANSWER_SECONDS),
            "options": f"{url.query.get('options', '')} {options}",
        },
    )


def _require_version(ledger: sa.Connection) -> None:
    version = ledger.execute(_VERSION).scalar()
    if version != VERSION:
        raise Unknown(
            f"The ledger is of version {version}, but this release reads {VERSION}: "
            "audit it with the release that created it."
        )


def _as_lease(row: Mapping[str, Any]) -> Lease:
    values = {field.name: row[field.name] for field in fields(Lease)}
    return Lease(
        **{
            **values,
            "gpu_uuids": tuple(row["gpu_uuids"]),
            "state": LeaseState(row["state"]),
            "cause": None if row["cause"] is None else Cause(row["cause"]),
        }
    )


def read_lease_time(heartbeat: Mapping[str, Any] | None) -> float:
    """Return the time of the lease clock, whether a hub runs or not."""
    if heartbeat is None:
        return time.time()
    if heartbeat["boot_id"] == BOOT_ID.read_text().strip():
        return float(time.clock_gettime(time.CLOCK_BOOTTIME) + heartbeat["offset_seconds"])
    return max(time.time(), float(heartbeat["at"]))
