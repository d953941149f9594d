"""Whether a quota admits a request, or a longer time.

A refusal says what was asked, held and allowed, and what to do. Whoever holds no GPU is in nobody's way: neither
count nor time of a server without GPUs is bounded. GPUs that somebody waits for count as held: they will be. A MIG
instance counts as one GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from spawner.model import Cause, Lease, LeaseState, Quota, Reason, Refused, Request
from spawner.policy.health import RESTART_ADVICE
from spawner.policy.formatting import format_gpu_count, format_hours

MIN_USEFUL_HOURS = 0.25
"""Nobody is advised to ask for less, or given less than that unasked."""
DAY_SECONDS = 86400.0


def held_gpu_hours(leases: Iterable[Lease], quota: Quota, now: float) -> float:
    """Return the GPU-hours for which ``leases``, live and closed, held their GPUs in the quota's window until ``now``.

    A lease that only the hub's own end interrupted is nobody's use.
    """
    if quota.window_days is None:
        return 0.0
    since = now - quota.window_days * DAY_SECONDS
    return sum(
        lease.gpu_count
        * max(min(lease.ended_at or now, now) - max(lease.granted_at, since), 0.0)
        / 3600.0
        for lease in leases
        if lease.granted_at is not None and lease.cause is not Cause.INTERRUPTED
    )


def coming_gpu_hours(leases: Iterable[Lease], now: float) -> float:
    """Return the GPU-hours that the live ``leases`` may still take: to their end, or all of those that wait."""
    hours = 0.0
    for lease in leases:
        if lease.state is LeaseState.WAITING:
            hours += lease.gpu_count * lease.hours
        elif lease.ended_at is None and lease.ends_at is not None:
            hours += lease.gpu_count * max(lease.ends_at - now, 0.0) / 3600.0
    return hours


def gpu_hours_left(
    user: str, quota: Quota, leases: Iterable[Lease], held: float, now: float
) -> float | None:
    """Return the GPU-hours that ``user`` may still ask for, None where they are not bounded."""
    if quota.gpu_hours is None:
        return None
    own = (lease for lease in leases if lease.user == user)
    return max(quota.gpu_hours - held - coming_gpu_hours(own, now), 0.0)


def lease_hours(
    request: Request, quota: Quota, leases: Iterable[Lease], held: float, now: float
) -> float:
    """Return for how many hours ``request`` is: as it says, else as long as the quota allows."""
    asked, hours = request.options.gpus, request.options.hours
    if hours is not None:
        return hours
    left = gpu_hours_left(request.user, quota, leases, held, now)
    if left is None or asked == 0:
        return quota.max_lease_hours
    return min(quota.max_lease_hours, left / asked)


def check_quota(
    request: Request,
    quota: Quota,
    leases: Sequence[Lease],
    *,
    held: float = 0.0,
    now: float = 0.0,
) -> Refused | None:
    """Return why ``quota`` refuses ``request``, or None.

    ``leases`` are the live ones of the user and of the groups that have a total; ``held`` are the GPU-hours that the
    user held in the quota's window until ``now``.
    """
    release, asked = request.options.release, request.options.gpus
    kind, hours = request.options.mig_profile, request.options.hours
    if quota.releases is not None and release not in quota.releases:
        return _refuse_release(release, quota.releases)
    if asked == 0:
        return None
    if hours is not None and hours > quota.max_lease_hours:
        return Refused(
            Reason.TOO_LONG,
            f"You asked for {format_hours(hours)}, but your quota is {format_hours(quota.max_lease_hours)} at a time: "
            "ask for less, and extend it later if nobody waits.",
        )
    own = count_user_gpus(request.user, leases)
    if quota.max_gpus is not None and own + asked > quota.max_gpus:
        left = max(quota.max_gpus - own, 0)
        advice = f"ask for {left} or fewer" if left else "start with 0 GPUs"
        return Refused(
            Reason.OVER_QUOTA,
            f"You asked for {format_gpu_count(asked, kind)} and hold or wait for {own}, but your quota is "
            f"{quota.max_gpus} at once: {advice}, or ask an admin to raise it.",
        )
    return _refuse_total(asked, kind, quota, leases) or _refuse_gpu_hours(
        request, quota, leases, held, now
    )


def count_user_gpus(user: str, leases: Iterable[Lease]) -> int:
    """Return how many GPUs ``user`` holds or waits for."""
    return sum(lease.gpu_count for lease in leases if lease.user == user)


def count_group_gpus(name: str, leases: Iterable[Lease]) -> int:
    """Return how many GPUs the members of the group hold or wait for, as those that they were when they asked."""
    return sum(lease.gpu_count for lease in leases if name in lease.groups)


def _refuse_release(release: str, allowed: Sequence[str]) -> Refused:
    return Refused(
        Reason.RELEASE_NOT_ALLOWED,
        f"You asked for release {release}, but your quota allows {', '.join(allowed)}: choose of these, or ask an "
        "admin.",
    )


def _refuse_total(
    asked: int, kind: str | None, quota: Quota, leases: Sequence[Lease]
) -> Refused | None:
    for cap in quota.caps:
        held = count_group_gpus(cap.group, leases)
        if held + asked > cap.total_gpus:
            left = max(cap.total_gpus - held, 0)
            advice = f"ask for {left} or fewer" if left else "start with 0 GPUs"
            return Refused(
                Reason.GROUP_FULL,
                f"You asked for {format_gpu_count(asked, kind)}, and group {cap.group} holds or waits for {held}, but it may "
                f"have {cap.total_gpus} in all: {advice}, or come again when a member has stopped.",
            )
    return None


def _refuse_gpu_hours(
    request: Request, quota: Quota, leases: Sequence[Lease], held: float, now: float
) -> Refused | None:
    asked = request.options.gpus
    left = gpu_hours_left(request.user, quota, leases, held, now)
    if left is None or quota.gpu_hours is None:
        return None
    hours = lease_hours(request, quota, leases, held, now)
    least = MIN_USEFUL_HOURS if request.options.hours is None else 0.0
    # who does not say how long gets just this; multiplied back it may round to more than what is left
    most = left / asked
    if min(least, quota.max_lease_hours) <= hours <= most:
        return None
    wants = format_gpu_count(asked, request.options.mig_profile)
    if request.options.hours is not None:
        wants += f" for {format_hours(hours)}, which is {_say_number(asked * hours)} GPU-hours,"
    is_worth_it = most >= MIN_USEFUL_HOURS
    advice = f"ask for at most {format_hours(most)}" if is_worth_it else "start with 0 GPUs"
    return _refuse_used(wants, quota, leases, held, now, request.user, advice)


def _refuse_used(
    wants: str,
    quota: Quota,
    leases: Sequence[Lease],
    held: float,
    now: float,
    user: str,
    advice: str,
) -> Refused:
    coming = coming_gpu_hours((lease for lease in leases if lease.user == user), now)
    may_take = f", and may take {_say_number(coming)} with what you have" if coming else ""
    days = "day" if quota.window_days == 1 else f"{quota.window_days} days"
    return Refused(
        Reason.OVER_GPU_HOURS,
        f"You asked for {wants} and held {_say_number(held)} GPU-hours in the last {days}{may_take}, but your quota is "
        f"{_say_number(quota.gpu_hours or 0.0)}: {advice}, or come again as older hours leave those days.",
    )


def _say_number(number: float) -> str:
    return f"{round(number, 1):g}"


def extend_lease(
    wish: tuple[str, str],
    hours: float,
    *,
    leases: Sequence[Lease],
    quota: Quota,
    now: float,
    held: float = 0.0,
) -> Lease | Refused:
    """Return the lease of the (user, server) ``wish`` with its end ``hours`` later, or why it is not extended.

    From ``now`` on no lease lasts longer than the quota's time, none is extended while anybody else waits for the
    same kind of GPU, and none that the quota would not give again.
    """
    running = (lease for lease in leases if lease.state in (LeaseState.RUNNING, LeaseState.LOST))
    lease = next((lease for lease in running if (lease.user, lease.server) == wish), None)
    if lease is not None and lease.state is LeaseState.LOST:
        return Refused(
            Reason.GPU_FAILED,
            f"A GPU of this server failed, so its time cannot be extended: {RESTART_ADVICE}",
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
            f"You asked for {format_hours(hours)} more, but no lease may last longer than "
            f"{format_hours(quota.max_lease_hours)} from now: ask for at most {format_hours(left)}.",
        )
    refused = _refuse_more(lease, hours, leases=leases, quota=quota, held=held, now=now)
    return refused or replace(lease, ends_at=ends_at)


def _refuse_more(
    lease: Lease, hours: float, *, leases: Sequence[Lease], quota: Quota, held: float, now: float
) -> Refused | None:
    """Return why what ``lease`` holds is beyond the quota, or would be after ``hours`` more."""
    if quota.releases is not None and lease.release not in quota.releases:
        return _refuse_release(lease.release, quota.releases)
    own = count_user_gpus(lease.user, leases)
    if quota.max_gpus is not None and own > quota.max_gpus:
        return Refused(
            Reason.OVER_QUOTA,
            f"You hold or wait for {format_gpu_count(own)}, but your quota is {quota.max_gpus} at once now: save your work, "
            "and stop what is beyond it before you extend the rest.",
        )
    for cap in quota.caps:
        of_group = count_group_gpus(cap.group, leases)
        if of_group > cap.total_gpus:
            return Refused(
                Reason.GROUP_FULL,
                f"Group {cap.group} holds or waits for {format_gpu_count(of_group)}, but it may have {cap.total_gpus} in all "
                "now: nothing of it is extended before that fits again.",
            )
    left = gpu_hours_left(lease.user, quota, leases, held, now)
    if left is None or lease.gpu_count * hours <= left:
        return None
    wants = f"{format_hours(hours)} more of {format_gpu_count(lease.gpu_count, lease.mig_profile)}"
    most = left / lease.gpu_count
    is_worth_it = most >= MIN_USEFUL_HOURS
    advice = f"ask for at most {format_hours(most)}" if is_worth_it else "save your work"
    return _refuse_used(wants, quota, leases, held, now, lease.user, advice)
