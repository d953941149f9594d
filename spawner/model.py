"""Domain model: defines GPUs, leases, quotas, requests and their answers.

The module imports the standard library only. Every value is frozen, and ``None`` means unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

SIMULATED_SUFFIX = "(simulated)"


class GpuHealth(StrEnum):
    """Health of a GPU as NVML reports it; ``UNKNOWN`` when NVML gives no answer."""

    OK = "ok"
    LOST = "lost"
    UNKNOWN = "unknown"


# slots, as in Lease: each decision scans all GPUs, and the denser layout makes it a third faster
@dataclass(frozen=True, slots=True)
class Gpu:
    """The unit that a lease holds: one GPU, or one MIG instance of a partitioned GPU.

    The UUID is the identity, never the index. ``mig_profile`` (such as ``1g.10gb``) and ``mig_index`` are None for a
    whole GPU. ``index`` is the index of the physical GPU in both cases. GPUs of one ``nvlink_group`` reach each other
    over NVLink; None means no link or an unknown one. ``xid`` is the last fatal Xid of the driver. ``xid_at`` is its
    time in seconds since the Unix epoch, by the agent's clock. ``compute_capability`` has the form ``8.6``.
    ``driver_version`` belongs to the host, and ``cuda_driver_version`` is the newest CUDA that this driver supports.
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
        """True for a GPU of the simulation library; its name carries the suffix."""
        return self.name.endswith(SIMULATED_SUFFIX)


class LeaseState(StrEnum):
    """State of a lease; ``TRANSITIONS`` lists every legal move."""

    WAITING = "waiting"  # A position in the queue: no GPU is claimed yet.
    GRANTED = "granted"  # GPUs are claimed, the server does not answer yet.
    RUNNING = "running"  # The server has answered.
    CLOSING = "closing"  # Written before the hub checks that the container is gone.
    CLOSED = "closed"  # The container is proven absent, the GPUs are free.
    LOST = "lost"  # A GPU of the lease failed; the lease keeps its GPUs and its container.


TRANSITIONS: dict[LeaseState, frozenset[LeaseState]] = {
    LeaseState.WAITING: frozenset({LeaseState.GRANTED, LeaseState.CLOSED}),
    LeaseState.GRANTED: frozenset({LeaseState.RUNNING, LeaseState.CLOSING, LeaseState.LOST}),
    LeaseState.RUNNING: frozenset({LeaseState.CLOSING, LeaseState.LOST}),
    LeaseState.LOST: frozenset({LeaseState.CLOSING}),
    LeaseState.CLOSING: frozenset({LeaseState.CLOSED}),
    LeaseState.CLOSED: frozenset(),
}

ACTIVE_STATES = frozenset({LeaseState.GRANTED, LeaseState.RUNNING})
"""States in which a server holds the GPUs of its request."""


class Cause(StrEnum):
    """Reason for the end of a lease; the ledger records it."""

    USER = "user"  # stopped or given up through the hub: by the user, an admin or the culler
    ADMIN = "admin"  # ended by an admin, with a reason
    FAILED = "failed"  # the spawn did not produce a server that answers
    INTERRUPTED = (
        "interrupted"  # the hub ended during the start: the request keeps its queue position
    )
    EXPIRED = "expired"  # the lease reached its end time
    UNCLAIMED = "unclaimed"  # granted, but its user did not open the server in time
    EXITED = "exited"  # the container ended without a request
    OUT_OF_MEMORY = "out_of_memory"  # the kernel killed the container at its memory limit
    LOST = "lost"  # the container was absent at an inspection
    IDLE = "idle"  # its GPUs and kernels were idle for too long


class WhenIdle(StrEnum):
    """Action for a server whose GPUs are idle."""

    STOP = "stop"
    GO_ON = "go_on"  # restart without GPUs


class StartMode(StrEnum):
    """How much of the user's own home a start uses."""

    NORMAL = "normal"
    WITHOUT_PACKAGES = "without_packages"  # the image's packages alone
    REPAIR = "repair"  # neither packages nor settings of the home, for mending it


@dataclass(frozen=True)
class Account:
    """Linux identity of a hub user; no other user ever gets this ``uid`` (= gid).

    ``user`` is the first name of the user. The home volume keeps that name after a rename. ``is_home_removed``: an
    admin removed the home of the deleted user, and the account is over.
    """

    uid: int
    user: str
    is_home_prepared: bool
    is_home_removed: bool = False


@dataclass(frozen=True)
class Quarantine:
    """A failed GPU; no lease gets it until an admin releases it.

    ``reason`` completes "GPU 3 …", for example "was lost by its driver". ``since`` and ``returned_at`` are times of
    the lease clock. ``xid_at`` is the agent's time of the Xid that caused the quarantine, or of the last one before
    the release. It is None without an Xid.
    """

    gpu_uuid: str
    reason: str
    since: float
    xid_at: float | None = None
    returned_at: float | None = None
    returned_by: str | None = None


@dataclass(frozen=True)
class Drain:
    """A GPU that gets no new lease, by order of the admin ``by``; ``since`` is a time of the lease clock."""

    gpu_uuid: str
    reason: str
    by: str
    since: float


class QueueEnd(StrEnum):
    """Target of an admin's move in the queue."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Lease:
    """A GPU set (possibly empty) of one server, from the queue position to the proof of absence.

    ``epoch`` counts the ledger's writes of this lease; each write names the epoch that it read. ``gpu_uuids`` is empty
    while the lease waits. ``gpu_count`` counts MIG instances if ``mig_profile`` is set, else whole GPUs.

    Times are seconds of the lease clock (``spawner.clock``). ``granted_at`` is None while the lease waits. ``ends_at``
    is the planned end; it is None while the lease waits and for a lease without GPUs. ``ended_at`` is None until the
    lease is closing. ``is_claimed`` means that the user was present at the grant or used the server since.
    ``groups`` are the user's groups at the time of the request. ``extras`` is the JSON text of `policy.extras`.
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
    start_mode: StartMode = StartMode.NORMAL
    extras: str = ""


class Cap(NamedTuple):
    """Limit on the GPUs that all members of one group hold together."""

    group: str
    total_gpus: int


@dataclass(frozen=True)
class Quota:
    """Limits of one user; None means no limit.

    ``gpu_hours`` applies to every period of ``window_days`` days. ``caps`` holds the totals of the user's groups.
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
    """Choices of a user for one server: the closed schema of both form and REST.

    ``hours`` None means the longest time that the quota allows. With a ``mig_profile``, ``gpus`` counts MIG instances.
    """

    release: str
    gpus: int
    hours: float | None = None
    mig_profile: str | None = None
    when_idle: WhenIdle = WhenIdle.STOP
    start_mode: StartMode = StartMode.NORMAL


@dataclass(frozen=True)
class Request:
    """Validated request of one server.

    ``identity`` identifies the hub user beyond the name: a new user with a deleted user's name gets another home.
    ``groups`` are the user's hub groups. ``extras`` is the JSON text of `policy.extras`, for a new lease.
    """

    user: str
    server: str
    options: Options
    identity: str
    groups: tuple[str, ...] = ()
    extras: str = ""


class Reason(StrEnum):
    """Closed list of refusal reasons (also a metric label)."""

    INVALID_OPTIONS = "invalid_options"
    UNKNOWN_RELEASE = "unknown_release"
    OVER_QUOTA = "over_quota"
    GROUP_FULL = "group_full"  # its members together hold the group's total
    OVER_GPU_HOURS = "over_gpu_hours"  # within the quota's window
    RELEASE_NOT_ALLOWED = "release_not_allowed"
    NOT_ENOUGH_GPUS = "not_enough_gpus"  # more than the workbench has
    INCOMPATIBLE = "incompatible"  # the release does not run on the GPUs
    TOO_LONG = "too_long"  # more hours than the quota allows
    NOT_APPROVED = "not_approved"  # the user's account is not approved
    GIVEN_UP = "given_up"  # left the queue before the grant
    OTHERS_WAIT = "others_wait"  # no extension while another user waits
    NO_LEASE = "no_lease"  # no lease to extend
    UNKNOWN_LEASE = "unknown_lease"  # no lease has this id
    GPU_FAILED = "gpu_failed"  # a GPU of the lease, or a GPU to release that still fails
    NO_QUARANTINE = "no_quarantine"  # no quarantine to release
    NO_GPU = "no_gpu"  # no GPU has this UUID
    DRAINED = "drained"  # the GPU is drained already
    NO_HOME = "no_home"  # no home has this name
    HOME_IN_USE = "home_in_use"  # its user exists, or a container uses it
    NO_DRAIN = "no_drain"  # no drain to undo
    CANNOT_MOVE = "cannot_move"  # has waited so long that no request may overtake it
    ALREADY_HELD = "already_held"  # the previous lease of this server is still closing
    NOT_READY = "not_ready"  # reconcile has not finished, or the agent has not answered
    HOME_FULL = "home_full"  # larger than its quota
    TOO_MANY_STARTS = "too_many_starts"  # of one user, one after another
    IMAGE_MISSING = "image_missing"
    START_FAILED = "start_failed"


@dataclass(frozen=True)
class Granted:
    """Answer: the request holds its GPUs."""

    lease: Lease


@dataclass(frozen=True)
class Waiting:
    """Answer: the request fits, but not now; the lease is its queue position."""

    lease: Lease


class QueuePosition(NamedTuple):
    """Position of a waiting lease among the ``queue_length`` requests for the same kind of GPU.

    ``position`` starts at 1. ``starts_at`` is an estimate; None means unknown.
    """

    lease_id: str
    position: int
    queue_length: int
    starts_at: float | None


@dataclass(frozen=True)
class Heartbeat:
    """A reading of the lease clock; the ledger keeps it for the next hub.

    During the boot ``boot_id`` the clock is ``offset_seconds`` ahead of CLOCK_BOOTTIME. ``at`` is its last reading.
    """

    boot_id: str
    offset_seconds: float
    at: float


@dataclass(frozen=True)
class Refused:
    """Answer: the request holds no GPU; ``message`` is one sentence for its user."""

    reason: Reason
    message: str


class WorkbenchError(Exception):
    """Base class of all errors that this package raises.

    WorkbenchError
    ├── SettingsError       the environment or the catalog is wrong; names the variable and the fix
    ├── QuotaRowError       a quota row is outside its schema; names the accepted values
    ├── OptionsError        the options of a user are outside the schema
    ├── ExtrasError         the extras of a server are outside the schema or the bounds
    ├── IllegalTransition   TRANSITIONS does not list the move; the lease is unchanged
    ├── StaleLease          the lease changed after the read; the write changed nothing
    ├── Unknown             a dependency (Docker, broker, agent, ledger) gave no trustworthy answer
    └── LaunchError         the container could not be created or started; carries the cause
    """


class SettingsError(WorkbenchError):
    """A setting has an unusable value."""


class QuotaRowError(WorkbenchError):
    """A quota row is outside its schema."""


class OptionsError(WorkbenchError):
    """Options of a user are outside the schema."""


class ExtrasError(WorkbenchError):
    """The extras of a server are outside their schema or the bounds."""


class IllegalTransition(WorkbenchError):  # noqa: N818
    """``TRANSITIONS`` does not list the move."""


class StaleLease(WorkbenchError):  # noqa: N818
    """A compare-and-set found another epoch."""


class Unknown(WorkbenchError):  # noqa: N818
    """A dependency gave no trustworthy answer: the hub frees nothing and kills nothing."""


class LaunchError(WorkbenchError):
    """A container could not be created or started."""
