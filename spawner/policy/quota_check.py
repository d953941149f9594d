"""Quota check: decides whether a quota admits a request or an extension.

A refusal states the number asked, held and allowed, and the next step. A server without GPUs has no limit on count or
time. The GPUs of a waiting request count as held, because it will hold them. A MIG instance counts as one GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from spawner.model import Cause, Lease, LeaseState, Quota, Reason, Refused, Request
from spawner.policy.formatting import format_gpu_count, format_hours
from spawner.policy.health import RESTART_ADVICE

MIN_USEFUL_HOURS = 0.25
"""Shortest time that a refusal suggests, or that a request without hours gets."""
DAY_SECONDS = 86400.0


def held_gpu_hours(leases: Iterable[Lease], quota: Quota, now: float) -> float:
    """Return the GPU-hours that ``leases``, live and closed, held in the quota's window until ``now``.

    A lease with the cause ``INTERRUPTED`` does not count: the hub ended it, not its user.
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
    """Return the GPU-hours still to come for the live ``leases``; a waiting lease counts with its full time."""
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
    """Return the GPU-hours that ``user`` may still request, or None without a limit."""
    if quota.gpu_hours is None:
        return None
    of_user = (lease for lease in leases if lease.user == user)
    return max(quota.gpu_hours - held - coming_gpu_hours(of_user, now), 0.0)


def lease_hours(
    request: Request, quota: Quota, leases: Iterable[Lease], held: float, now: float
) -> float:
    """Return the hours of ``request``: its own value, else the longest time that the quota allows."""
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
    """Return the refusal of ``request`` by ``quota``, or None if the quota admits it.

    ``leases`` are the live leases of the user and of each group that has a total. ``held`` is the user's GPU-hours in
    the quota's window until ``now``.
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
            "ask for less, and extend the time later if no other user waits.",
        )
    held_gpus = count_user_gpus(request.user, leases)
    if quota.max_gpus is not None and held_gpus + asked > quota.max_gpus:
        left = max(quota.max_gpus - held_gpus, 0)
        advice = f"ask for {left} or fewer" if left else "start with 0 GPUs"
        return Refused(
            Reason.OVER_QUOTA,
            f"You asked for {format_gpu_count(asked, kind)} and hold or wait for {held_gpus}, but your quota is "
            f"{quota.max_gpus} at once: {advice}, or ask an admin to raise it.",
        )
    return _refuse_total(asked, kind, quota, leases) or _refuse_gpu_hours(
        request, quota, leases, held, now
    )


def count_user_gpus(user: str, leases: Iterable[Lease]) -> int:
    """Return the number of GPUs that ``user`` holds or waits for."""
    return sum(lease.gpu_count for lease in leases if lease.user == user)


def count_group_gpus(name: str, leases: Iterable[Lease]) -> int:
    """Return the number of GPUs that the group holds or waits for, by membership at the time of each request."""
    return sum(lease.gpu_count for lease in leases if name in lease.groups)


def _refuse_release(release: str, allowed: Sequence[str]) -> Refused:
    return Refused(
        Reason.RELEASE_NOT_ALLOWED,
        f"You asked for release {release}, but your quota allows {', '.join(allowed)}: choose one of them, or ask an "
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
                f"You asked for {format_gpu_count(asked, kind)}, and group {cap.group} holds or waits for {held}, "
                f"but it may have {cap.total_gpus} in all: {advice}, or try again after a member has stopped a server.",
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
    # without hours the request gets exactly this; asked * hours could round to more than is left
    most = left / asked
    if min(least, quota.max_lease_hours) <= hours <= most:
        return None
    wants = format_gpu_count(asked, request.options.mig_profile)
    if request.options.hours is not None:
        wants += f" for {format_hours(hours)}, which is {_format_number(asked * hours)} GPU-hours,"
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
    may_take = (
        f", and your present servers may take {_format_number(coming)} more" if coming else ""
    )
    days = "day" if quota.window_days == 1 else f"{quota.window_days} days"
    return Refused(
        Reason.OVER_GPU_HOURS,
        f"You asked for {wants} and held {_format_number(held)} GPU-hours in the last {days}{may_take}, but your "
        f"quota is {_format_number(quota.gpu_hours or 0.0)}: {advice}, or try again when older hours have expired.",
    )


def _format_number(number: float) -> str:
    return f"{round(number, 1):g}"


def extend_lease(
    user_server: tuple[str, str],
    hours: float,
    *,
    leases: Sequence[Lease],
    quota: Quota,
    now: float,
    held: float = 0.0,
) -> Lease | Refused:
    """Return the lease of (user, server) with its end ``hours`` later, or the refusal.

    Three rules apply: the lease ends at most ``max_lease_hours`` after ``now``, no other user waits for the same kind
    of GPU, and the quota still covers the lease.
    """
    running = (lease for lease in leases if lease.state in (LeaseState.RUNNING, LeaseState.LOST))
    lease = next((lease for lease in running if (lease.user, lease.server) == user_server), None)
    if lease is not None and lease.state is LeaseState.LOST:
        return Refused(
            Reason.GPU_FAILED,
            f"A GPU of this server failed, so its time cannot be extended: {RESTART_ADVICE}",
        )
    if lease is None or lease.ends_at is None:
        return Refused(
            Reason.NO_LEASE,
            "This server holds no GPU with an end time: there is nothing to extend.",
        )
    waiting = (other for other in leases if other.state is LeaseState.WAITING)
    others = (other for other in waiting if other.user != lease.user)
    if any(other.mig_profile == lease.mig_profile for other in others):
        return Refused(
            Reason.OTHERS_WAIT,
            "Others wait for GPUs, so your time cannot be extended: save your work, and start a new server when your "
            "time is over.",
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
    """Return the refusal if ``lease`` exceeds the quota now or after ``hours`` more, else None."""
    if quota.releases is not None and lease.release not in quota.releases:
        return _refuse_release(lease.release, quota.releases)
    held_gpus = count_user_gpus(lease.user, leases)
    if quota.max_gpus is not None and held_gpus > quota.max_gpus:
        return Refused(
            Reason.OVER_QUOTA,
            f"You hold or wait for {format_gpu_count(held_gpus)}, but your quota is now {quota.max_gpus} at once: "
            "save your work, and stop servers until you are within it before you extend one.",
        )
    for cap in quota.caps:
        of_group = count_group_gpus(cap.group, leases)
        if of_group > cap.total_gpus:
            return Refused(
                Reason.GROUP_FULL,
                f"Group {cap.group} holds or waits for {format_gpu_count(of_group)}, but it may now have "
                f"{cap.total_gpus} in all: its members must stop servers before a lease can be extended.",
            )
    left = gpu_hours_left(lease.user, quota, leases, held, now)
    if left is None or lease.gpu_count * hours <= left:
        return None
    wants = f"{format_hours(hours)} more of {format_gpu_count(lease.gpu_count, lease.mig_profile)}"
    most = left / lease.gpu_count
    is_worth_it = most >= MIN_USEFUL_HOURS
    advice = f"ask for at most {format_hours(most)}" if is_worth_it else "save your work"
    return _refuse_used(wants, quota, leases, held, now, lease.user, advice)
