"""Whether a quota admits a request, or a longer time.

A refusal says what was asked, held and allowed, and what to do. Whoever holds no GPU is in nobody's way: neither
count nor time of a server without GPUs is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from spawner.model import Lease, LeaseState, Quota, Reason, Refused, Request
from spawner.policy.health import WHILE_IT_RUNS
from spawner.policy.words import count_gpus, say_hours


def check_quota(request: Request, quota: Quota, leases: Iterable[Lease]) -> Refused | None:
    """Return why ``quota`` refuses ``request`` beside the user's live ``leases``, or None.

    GPUs that the user waits for count as held: they will be. A MIG instance counts as one GPU.
    """
    asked, kind = request.options.gpus, request.options.mig_profile
    if asked == 0:
        return None
    hours = request.options.hours
    if hours is not None and hours > quota.max_lease_hours:
        return Refused(
            Reason.TOO_LONG,
            f"You asked for {say_hours(hours)}, but your quota is {say_hours(quota.max_lease_hours)} at a time: "
            "ask for less, and extend it later if nobody waits.",
        )
    own = sum(lease.gpu_count for lease in leases if lease.user == request.user)
    if quota.max_gpus is None or own + asked <= quota.max_gpus:
        return None
    left = max(quota.max_gpus - own, 0)
    advice = f"ask for {left} or fewer" if left else "start with 0 GPUs"
    return Refused(
        Reason.OVER_QUOTA,
        f"You asked for {count_gpus(asked, kind)} and hold or wait for {own}, but your quota is "
        f"{quota.max_gpus} at once: {advice}, or ask an admin to raise it.",
    )


def extend_lease(
    wish: tuple[str, str], hours: float, *, leases: Sequence[Lease], quota: Quota, now: float
) -> Lease | Refused:
    """Return the lease of the (user, server) ``wish`` with its end ``hours`` later, or why it is not extended.

    From ``now`` on no lease lasts longer than the quota's time, and none is extended while anybody else waits for
    the same kind of GPU.
    """
    running = (lease for lease in leases if lease.state in (LeaseState.RUNNING, LeaseState.LOST))
    lease = next((lease for lease in running if (lease.user, lease.server) == wish), None)
    if lease is not None and lease.state is LeaseState.LOST:
        return Refused(
            Reason.GPU_FAILED,
            f"A GPU of this server failed, so its time cannot be extended: {WHILE_IT_RUNS}",
        )
    if lease is None or lease.ends_at is None:
        return Refused(
            Reason.NO_LEASE, "This server holds no GPU for a bounded time: nothing to extend."
        )
    waiting = (other for other in leases if other.state is LeaseState.WAITING)
    others = (other for other in waiting if other.user != lease.user)
    if any(other.mig_profile == lease.mig_profile for other in others):
        return Refused(
            Reason.OTHERS_WAIT,
            "Others wait for GPUs, so your time cannot be extended: save your work, and stand in line again.",
        )
    ends_at = lease.ends_at + hours * 3600.0
    if ends_at - now > quota.max_lease_hours * 3600.0:
        left = max(quota.max_lease_hours - (lease.ends_at - now) / 3600.0, 0.0)
        return Refused(
            Reason.TOO_LONG,
            f"You asked for {say_hours(hours)} more, but no lease may last longer than "
            f"{say_hours(quota.max_lease_hours)} from now: ask for at most {say_hours(left)}.",
        )
    return replace(lease, ends_at=ends_at)
