"""Lease view: builds one server's lease for its owner: the end of the lease, or how the last one ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from jupyterhub.user import User

from spawner.hub.identity import identify, quota_subject
from spawner.hub.schema.leases import LeaseJson
from spawner.hub.views.quota import read_entitlement
from spawner.hub.views.timestamps import Timestamp
from spawner.hub.workbench import Workbench
from spawner.model import Cause, Lease, LeaseState
from spawner.policy.formatting import format_duration, format_gpu_count

REMEMBERED_SECONDS = 24 * 3600.0
"""Pages show the end of a lease for this long."""


@dataclass(frozen=True)
class LeaseEnd:
    """The end of the last lease; ``what``, the time ``at`` and ``why`` form one sentence in this order."""

    cause: Cause
    what: str
    at: Timestamp
    why: str


@dataclass(frozen=True)
class LeaseView:
    """The lease of one server; ``state`` is None without a lease, ``until`` without a time limit.

    ``most_hours`` is the longest allowed duration from now. ``trouble`` is one sentence for the user about a failed
    GPU, None while all is well. ``position`` (such as "2 of 5") and ``about``, the estimated start, are set while the
    lease waits. ``idle_seconds_left`` is the time until an idle lease ends, None unless that is soon.
    ``requeue_options`` request the GPUs that an idle lease lost. ``notices`` are the server's own sentences. The home's
    size is None while it is unknown, and its quota without one. ``now`` is seconds since the Unix epoch.
    """

    state: LeaseState | None
    gpu_count: int
    mig_profile: str | None
    until: Timestamp | None
    seconds_left: float | None
    most_hours: float
    trouble: str | None
    ended: LeaseEnd | None
    now: float
    position: str | None = None
    about: Timestamp | None = None
    idle_seconds_left: float | None = None
    requeue_options: dict[str, Any] | None = None
    notices: tuple[str, ...] = ()
    home_size_bytes: int | None = None
    home_quota_bytes: int | None = None

    @property
    def is_waiting(self) -> bool:
        """True while the lease waits in the queue."""
        return self.state is LeaseState.WAITING

    @property
    def wants(self) -> str:
        """The GPUs of this lease as text."""
        return format_gpu_count(self.gpu_count, self.mig_profile)

    @property
    def requeue_wants(self) -> str:
        """The GPUs of ``requeue_options`` as text."""
        options = self.requeue_options or {"gpus": 0, "mig_profile": None}
        return format_gpu_count(options["gpus"], options["mig_profile"])

    @property
    def idle_left(self) -> str:
        """The time until an idle lease ends, as text."""
        return format_duration(self.idle_seconds_left or 0.0)

    @property
    def time_left(self) -> str:
        """The time until the lease ends, as text."""
        return format_duration(max(self.seconds_left or 0.0, 0.0))

    def as_json(self) -> LeaseJson:
        """Return the lease in the API's form."""
        left, idle, again = self.seconds_left, self.idle_seconds_left, self.requeue_options
        return {
            "state": self.state,
            "gpus": self.gpu_count,
            "ends_at": None if self.until is None else self.until.iso,
            "seconds_left": None if left is None else round(left),
            "max_lease_hours": self.most_hours,
            "idle_seconds_left": None if idle is None else round(idle),
            "trouble": self.trouble,
            "gpus_given_back": None if again is None else again["gpus"],
            "home_size_bytes": self.home_size_bytes,
            "home_quota_bytes": self.home_quota_bytes,
            "notices": list(self.notices),
            "last_end": None
            if self.ended is None
            else {"cause": self.ended.cause, "at": self.ended.at.iso},
        }


async def build_lease_view(workbench: Workbench, user: User, server: str) -> LeaseView:
    """Return the lease of ``server`` now."""
    lease = await workbench.controller.lease_of(user.name, server)
    ended = requeue_options = None
    if lease is None or not lease.gpu_count:
        last = await asyncio.to_thread(_last_lease, workbench, user, server, lease)
        if lease is None:
            why = (
                None
                if last is None
                else await workbench.controller.admin_actions.end_reason(last.id)
            )
            ended = _build_lease_end(workbench, last, why)
        requeue_options = _build_requeue_options(workbench, last)
    quota = (await read_entitlement(workbench, quota_subject(user))).quota
    ends_at = None if lease is None else lease.ends_at
    queued = None if lease is None else workbench.controller.position_of(lease.id)
    about = None if queued is None else queued.starts_at
    return LeaseView(
        state=None if lease is None else lease.state,
        gpu_count=0 if lease is None else lease.gpu_count,
        mig_profile=None if lease is None else lease.mig_profile,
        until=None if ends_at is None else Timestamp(workbench.clock.to_wall(ends_at)),
        seconds_left=None if ends_at is None else ends_at - workbench.clock(),
        most_hours=quota.max_lease_hours,
        trouble=None if lease is None else await workbench.controller.health.trouble_of(lease),
        ended=ended,
        now=time.time(),
        position=None if queued is None else f"{queued.position} of {queued.queue_length}",
        about=None if about is None else Timestamp(workbench.clock.to_wall(about)),
        idle_seconds_left=None if lease is None else workbench.idle_tracker.seconds_left(lease.id),
        requeue_options=requeue_options,
        notices=() if lease is None else workbench.server_notices.of(lease.id),
        home_size_bytes=workbench.disk.home_size(identify(user)),
        home_quota_bytes=workbench.disk.quota_bytes,
    )


def _last_lease(workbench: Workbench, user: User, server: str, lease: Lease | None) -> Lease | None:
    """Return the server's last lease; while a lease without GPUs runs, the last ended one with GPUs.

    The account is compared, because an earlier user may have had the same name.
    """
    ledger = workbench.ledger
    find = ledger.last_lease if lease is None else ledger.last_ended
    last, account = find(user.name, server), ledger.account_by_identity(identify(user))
    is_theirs = last is not None and account is not None and last.uid == account.uid
    return last if is_theirs else None


def _build_requeue_options(workbench: Workbench, last: Lease | None) -> dict[str, Any] | None:
    """Return the options of a lease that ended recently because it was idle, None for any other."""
    if last is None or last.cause is not Cause.IDLE or last.ended_at is None:
        return None
    if workbench.clock() - last.ended_at > REMEMBERED_SECONDS:
        return None
    return {
        "release": last.release,
        "gpus": last.gpu_count,
        "mig_profile": last.mig_profile,
        "hours": last.hours,
        "when_idle": last.when_idle.value,
    }


def _build_lease_end(workbench: Workbench, lease: Lease | None, why: str | None) -> LeaseEnd | None:
    """Return how ``lease`` ended; None when its user ended it or when it ended long ago.

    ``why`` is the reason that an admin gave for ending it.
    """
    if lease is None or lease.ended_at is None or lease.cause is None:
        return None
    if workbench.clock() - lease.ended_at > REMEMBERED_SECONDS:
        return None
    claim_minutes = workbench.settings.claim_minutes
    sentence = {
        Cause.ADMIN: ("An admin ended your lease at", f": {why}"),
        Cause.EXPIRED: ("Your lease ended at", ": its time was over."),
        Cause.UNCLAIMED: (
            "Your lease ended at",
            f": you did not open the server within {claim_minutes} min after its GPUs were granted.",
        ),
        Cause.IDLE: (
            "Your GPUs were given back at",
            f": nothing used them for {format_duration(workbench.settings.idle_minutes * 60)}.",
        ),
        Cause.OUT_OF_MEMORY: ("Your server ended at", ": it ran out of memory."),
        Cause.EXITED: ("Your server ended by itself at", "."),
        Cause.LOST: ("Your server disappeared at", ": ask an admin for the cause."),
    }.get(lease.cause)
    if sentence is None:
        return None
    what, explanation = sentence
    ended_at = Timestamp(workbench.clock.to_wall(lease.ended_at))
    return LeaseEnd(lease.cause, what, ended_at, explanation)
