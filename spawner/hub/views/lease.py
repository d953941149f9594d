"""One server's lease as its owner sees it: until when it lasts, or how the last one ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from jupyterhub.user import User

from spawner.hub.identity import identify, quota_subject
from spawner.hub.views.timestamps import Timestamp
from spawner.hub.views.quota import read_entitlement
from spawner.hub.workbench import Workbench
from spawner.model import Cause, Lease, LeaseState
from spawner.policy.formatting import format_gpu_count, format_duration

REMEMBERED_SECONDS = 24 * 3600.0
"""For how long the end of a lease is told."""


@dataclass(frozen=True)
class LeaseEnd:
    """How the last lease ended: ``what`` at the moment ``at``, and ``why``; together one sentence."""

    cause: Cause
    what: str
    at: Timestamp
    why: str


@dataclass(frozen=True)
class LeaseView:
    """The lease of one server; ``state`` is None while it has none, ``until`` while it has no bounded time.

    ``most_hours`` is the longest that a lease may last from now on. ``trouble`` is one sentence, what its user has to
    know and do now; None while all is well. ``place`` (such as "2 of 5") and ``about``, when its turn comes, are set
    while it waits, as far as they are known. ``idle_seconds_left`` is until it ends because
    nothing uses its GPUs, None unless that is soon; ``again`` are the options with which to ask for GPUs that were
    given back for that. ``now`` is seconds since the Unix epoch, by the wall clock.
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
    place: str | None = None
    about: Timestamp | None = None
    idle_seconds_left: float | None = None
    again: dict[str, Any] | None = None

    @property
    def is_waiting(self) -> bool:
        """True for a place in line."""
        return self.state is LeaseState.WAITING

    @property
    def wants(self) -> str:
        """Return what it is for."""
        return format_gpu_count(self.gpu_count, self.mig_profile)

    @property
    def wants_again(self) -> str:
        """Return what was given back because nothing used it."""
        again = self.again or {"gpus": 0, "mig_profile": None}
        return format_gpu_count(again["gpus"], again["mig_profile"])

    @property
    def idle_left(self) -> str:
        """Return in words when it ends because nothing uses its GPUs."""
        return format_duration(self.idle_seconds_left or 0.0)

    @property
    def time_left(self) -> str:
        """Return what is left in words."""
        return format_duration(max(self.seconds_left or 0.0, 0.0))

    def as_json(self) -> dict[str, Any]:
        """Return what the API says of it."""
        left = self.seconds_left
        return {
            "state": self.state and self.state.value,
            "gpus": self.gpu_count,
            "ends_at": self.until and self.until.iso,
            "seconds_left": None if left is None else round(left),
            "max_lease_hours": self.most_hours,
            "idle_seconds_left": self.idle_seconds_left and round(self.idle_seconds_left),
            "trouble": self.trouble,
            "gpus_given_back": self.again and self.again["gpus"],
            "last_end": self.ended and {"cause": self.ended.cause.value, "at": self.ended.at.iso},
        }


async def build_lease_view(workbench: Workbench, user: User, server: str) -> LeaseView:
    """Return the server's lease as it is now."""
    lease = await workbench.controller.lease_of(user.name, server)
    ended = again = None
    if lease is None or not lease.gpu_count:
        last = await asyncio.to_thread(_last_lease, workbench, user, server, lease)
        if lease is None:
            why = None if last is None else await workbench.controller.admin_actions.end_reason(last.id)
            ended = _build_lease_end(workbench, last, why)
        again = _build_requeue_options(workbench, last)
    quota = (await read_entitlement(workbench, quota_subject(user))).quota
    ends_at = None if lease is None else lease.ends_at
    place = None if lease is None else workbench.controller.position_of(lease.id)
    about = None if place is None else place.starts_at
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
        place=None if place is None else f"{place.position} of {place.queue_length}",
        about=None if about is None else Timestamp(workbench.clock.to_wall(about)),
        idle_seconds_left=None if lease is None else workbench.idle_tracker.seconds_left(lease.id),
        again=again,
    )


def _last_lease(workbench: Workbench, user: User, server: str, lease: Lease | None) -> Lease | None:
    """Return the last lease, or, where it has one without GPUs, the one with GPUs that ended last.

    That of who had the name before is none of theirs.
    """
    ledger = workbench.ledger
    find = ledger.last_lease if lease is None else ledger.last_ended
    last, account = find(user.name, server), ledger.account_by_identity(identify(user))
    is_theirs = last is not None and account is not None and last.uid == account.uid
    return last if is_theirs else None


def _build_requeue_options(workbench: Workbench, last: Lease | None) -> dict[str, Any] | None:
    """Return the options of a lease that ended lately for doing nothing, None for any other."""
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
    """Return how ``lease`` ended; None where its user ended it, knows already, or has forgotten.

    ``why`` is the reason of the admin who ended it.
    """
    if lease is None or lease.ended_at is None or lease.cause is None:
        return None
    if workbench.clock() - lease.ended_at > REMEMBERED_SECONDS:
        return None
    claim_minutes = workbench.settings.claim_minutes
    said = {
        Cause.ADMIN: ("An admin ended your lease at", f": {why}"),
        Cause.EXPIRED: ("Your lease ended at", ": its time was over."),
        Cause.UNCLAIMED: (
            "Your lease ended at",
            f": its turn had come, and nobody opened the server within {claim_minutes} min.",
        ),
        Cause.IDLE: (
            "Your GPUs were given back at",
            f": nothing used them for {format_duration(workbench.settings.idle_minutes * 60)}.",
        ),
        Cause.OUT_OF_MEMORY: ("Your server ended at", ": it ran out of memory."),
        Cause.EXITED: ("Your server ended by itself at", "."),
        Cause.LOST: ("Your server was found gone at", ": tell an admin if nobody removed it."),
    }.get(lease.cause)
    if said is None:
        return None
    return LeaseEnd(lease.cause, said[0], Timestamp(workbench.clock.to_wall(lease.ended_at)), said[1])
