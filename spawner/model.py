"""The nouns of the workbench: GPUs, leases, quotas, requests and their answers.

Standard library only; everything here is a frozen value, and unknown is always ``None``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

SIMULATED_SUFFIX = "(simulated)"


class GpuHealth(StrEnum):
    """What NVML says of a GPU: ``UNKNOWN`` when it could not be asked."""

    OK = "ok"
    LOST = "lost"
    UNKNOWN = "unknown"


# slots, as of Lease: each decision looks through all of them, and is a third quicker where they lie close together
@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of the host, or one MIG instance of a GPU that is divided: what a lease can hold.

    Its identity is the UUID, never the index. ``mig_profile`` (such as ``1g.10gb``) and ``mig_index`` are None for a
    whole GPU; ``index`` is the GPU's own for both. GPUs of one ``nvlink_group`` reach each other over NVLink; None
    where nobody knows, or it reaches none. ``xid`` is the last fatal Xid that its driver reported, ``xid_at`` when,
    in seconds since the Unix epoch by the agent's clock. ``compute_capability`` is such as ``8.6``;
    ``driver_version`` and ``cuda_driver_version``, the newest CUDA that this driver knows, are its host's.
    """

    uuid: str
    index: int
    name: str
    memory_total_bytes: int | None
    health: GpuHealth = GpuHealth.UNKNOWN
    mig_profile: str | None = None
    mig_index: int | None = None
    numa_node: int | None = None
    nvlink_group: int | None = None
    xid: int | None = None
    xid_at: float | None = None
    compute_capability: str | None = None
    driver_version: str | None = None
    cuda_driver_version: str | None = None

    @property
    def is_simulated(self) -> bool:
        """True for a GPU that only the simulation library knows; its name says so."""
        return self.name.endswith(SIMULATED_SUFFIX)


class LeaseState(Enum):
    """A lease's life; only the moves in ``TRANSITIONS`` are legal."""

    WAITING = "waiting"  # a place in line: nothing claimed yet
    GRANTED = "granted"  # GPUs claimed, container not yet answering
    RUNNING = "running"  # the server answered
    CLOSING = "closing"  # written before anyone looks whether the container is gone
    CLOSED = "closed"  # container seen absent, GPUs free
    LOST = "lost"  # a GPU failed under it; still held, and its container left alone


TRANSITIONS: dict[LeaseState, frozenset[LeaseState]] = {
    LeaseState.WAITING: frozenset({LeaseState.GRANTED, LeaseState.CLOSED}),
    LeaseState.GRANTED: frozenset({LeaseState.RUNNING, LeaseState.CLOSING, LeaseState.LOST}),
    LeaseState.RUNNING: frozenset({LeaseState.CLOSING, LeaseState.LOST}),
    LeaseState.LOST: frozenset({LeaseState.CLOSING}),
    LeaseState.CLOSING: frozenset({LeaseState.CLOSED}),
    LeaseState.CLOSED: frozenset(),
}

IN_HAND = frozenset({LeaseState.GRANTED, LeaseState.RUNNING})
"""States in which a server has what it asked for."""


class Cause(StrEnum):
    """Why a lease ended; recorded with it."""

    USER = "user"  # stopped or given up from the hub: by its user, an admin or the culler
    ADMIN = "admin"  # ended by an admin, who said why
    FAILED = "failed"  # the spawn did not reach a server that answers
    INTERRUPTED = (
        "interrupted"  # the hub ended while the server was starting: its place in line is kept
    )
    EXPIRED = "expired"  # its time was over
    UNCLAIMED = "unclaimed"  # its turn came and nobody opened the server
    EXITED = "exited"  # the container ended by itself
    OUT_OF_MEMORY = "out_of_memory"  # the kernel ended it at its memory limit
    LOST = "lost"  # the container was gone when the hub looked
    IDLE = "idle"  # its GPUs and kernels did nothing for a long time


class WhenIdle(StrEnum):
    """What becomes of a server whose GPUs do nothing."""

    STOP = "stop"
    GO_ON = "go_on"  # without GPUs


@dataclass(frozen=True)
class Account:
    """A hub user's own Linux identity; ``uid`` (= gid) is never given to anyone else.

    ``user`` is the name they had first: their home is called by it for ever.
    """

    uid: int
    user: str
    is_home_prepared: bool


@dataclass(frozen=True)
class Quarantine:
    """A GPU that failed: nobody is given it until an admin returns it.

    ``reason`` completes "GPU 3 …", such as "was lost by its driver"; ``since`` and ``returned_at`` are of the lease
    clock. ``xid_at`` is the agent's time of the last Xid that it was quarantined for or that was known when it was
    returned, None where there was none.
    """

    gpu_uuid: str
    reason: str
    since: float
    xid_at: float | None = None
    returned_at: float | None = None
    returned_by: str | None = None


@dataclass(frozen=True)
class Drain:
    """A GPU that the admin ``by`` lets nobody be given, for a ``reason``; ``since`` is of the lease clock."""

    gpu_uuid: str
    reason: str
    by: str
    since: float


class LineEnd(StrEnum):
    """Where in line an admin moves somebody."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Lease:
    """A GPU set (possibly empty) wanted or held by one server, from its place in line to proof of absence.

    ``epoch`` counts the ledger's writes of this lease; each write names the epoch it saw. ``gpu_uuids`` is empty while
    it waits for its ``gpu_count``, of MIG instances where it has a ``mig_profile``. Times are seconds of the lease
    clock (``spawner.clock``): ``granted_at`` is None while it waits, ``ends_at`` (when its time will be over) then and
    for a lease without GPUs, ``ended_at`` until it is closing. ``is_claimed``: its user was there when it was granted,
    or has been seen on the server since. ``groups`` are those that the user had when they asked.
    """

    id: str
    epoch: int
    user: str
    server: str
    uid: int
    release: str
    gpu_count: int
    hours: float
    priority: int
    gpu_uuids: tuple[str, ...]
    state: LeaseState
    requested_at: float
    granted_at: float | None = None
    ends_at: float | None = None
    ended_at: float | None = None
    cause: Cause | None = None
    is_claimed: bool = False
    mig_profile: str | None = None
    groups: tuple[str, ...] = ()
    when_idle: WhenIdle = WhenIdle.STOP


class Cap(NamedTuple):
    """How many GPUs all members of one group may hold together."""

    group: str
    total_gpus: int


@dataclass(frozen=True)
class Quota:
    """What a user may hold at once, for how long, and how much of it; None is no limit.

    ``gpu_hours`` are those of any ``window_days`` on end. ``caps`` are the totals of the user's groups.
    """

    max_gpus: int | None = None
    max_lease_hours: float = 24.0
    priority: int = 0
    gpu_hours: float | None = None
    window_days: int | None = None
    releases: tuple[str, ...] | None = None
    caps: tuple[Cap, ...] = ()


@dataclass(frozen=True)
class Options:
    """What a person may choose for a server: the closed schema behind form and REST alike.

    ``hours`` None is as long as the quota allows; with a ``mig_profile``, ``gpus`` are MIG instances of it.
    """

    release: str
    gpus: int
    hours: float | None = None
    mig_profile: str | None = None
    when_idle: WhenIdle = WhenIdle.STOP


@dataclass(frozen=True)
class Request:
    """One server's wish, already validated.

    ``identity`` is what the hub knows its user by beyond the name, so that a deleted user's name brings nobody their
    home; ``groups`` are the hub's groups that they are in.
    """

    user: str
    server: str
    options: Options
    identity: str
    groups: tuple[str, ...] = ()


class Reason(StrEnum):
    """The closed list of reasons for which a spawn is refused (also a metric label)."""

    INVALID_OPTIONS = "invalid_options"
    UNKNOWN_RELEASE = "unknown_release"
    OVER_QUOTA = "over_quota"
    GROUP_FULL = "group_full"  # its members together hold what they may
    OVER_GPU_HOURS = "over_gpu_hours"  # of the quota's window
    RELEASE_NOT_ALLOWED = "release_not_allowed"
    NOT_ENOUGH_GPUS = "not_enough_gpus"  # more than the host has
    INCOMPATIBLE = "incompatible"  # the release does not run on the host's GPUs
    TOO_LONG = "too_long"  # more hours than the quota allows
    GIVEN_UP = "given_up"  # left the line before its turn
    OTHERS_WAIT = "others_wait"  # no extension while somebody stands in line
    NO_LEASE = "no_lease"  # nothing there that could be extended
    GPU_FAILED = "gpu_failed"  # of the lease, or the one to be returned, and it still is ill
    NO_QUARANTINE = "no_quarantine"  # nothing there that could be returned
    NO_GPU = "no_gpu"  # no GPU of this UUID
    DRAINED = "drained"  # already
    NO_DRAIN = "no_drain"  # nothing there that could be undrained
    CANNOT_MOVE = "cannot_move"  # has waited so long that nobody may pass any more
    ALREADY_HELD = "already_held"  # this server still has a lease that is closing
    NOT_READY = "not_ready"  # reconcile or the agent has not answered yet
    IMAGE_MISSING = "image_missing"
    START_FAILED = "start_failed"


@dataclass(frozen=True)
class Granted:
    """The request holds its GPUs now."""

    lease: Lease


@dataclass(frozen=True)
class Waiting:
    """The request fits, but not now: the lease is its place in line."""

    lease: Lease


class Place(NamedTuple):
    """Where a waiting lease stands among the ``line_length`` who want the same kind of GPUs.

    ``position`` is from 1; ``starts_at`` is an estimate, None when nobody knows.
    """

    lease_id: str
    position: int
    line_length: int
    starts_at: float | None


@dataclass(frozen=True)
class Heartbeat:
    """A reading of the lease clock, as the ledger keeps it for the next hub.

    During the boot ``boot_id`` the clock shows ``offset_seconds`` more than CLOCK_BOOTTIME; it showed ``at`` last.
    """

    boot_id: str
    offset_seconds: float
    at: float


@dataclass(frozen=True)
class Refused:
    """The request holds nothing; ``message`` is one sentence for the person who asked."""

    reason: Reason
    message: str


class WorkbenchError(Exception):
    """Root of the errors this package raises on purpose.

    WorkbenchError
    ├── SettingsError       the environment or catalog is wrong; names the variable and the fix
    ├── LimitsError         a row of the quotas that cannot be; says what can
    ├── OptionsError        what a person asked for is not of the schema
    ├── IllegalTransition   a lease move that TRANSITIONS does not list; nothing was changed
    ├── StaleLease          the lease changed since it was read; nothing was changed
    ├── Unknown             the world could not be asked (Docker, agent); nothing may be concluded
    └── LaunchError         the container could not be created or started; says why
    """


class SettingsError(WorkbenchError):
    """A setting that cannot be used."""


class LimitsError(WorkbenchError):
    """A row of the quotas outside the schema."""


class OptionsError(WorkbenchError):
    """User options outside the schema."""


class IllegalTransition(WorkbenchError):  # noqa: N818
    """A move between lease states that the table does not list."""


class StaleLease(WorkbenchError):  # noqa: N818
    """A compare-and-set that met another epoch."""


class Unknown(WorkbenchError):  # noqa: N818
    """No answer, or none that can be trusted: neither frees nor kills."""


class LaunchError(WorkbenchError):
    """A container that could not be brought up."""
