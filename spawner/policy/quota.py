"""Whether a quota admits a request.

A refusal says what was asked, held and allowed, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

from spawner.model import Lease, Quota, Reason, Refused, Request
from spawner.policy.words import count_gpus


def check_quota(request: Request, quota: Quota, leases: Iterable[Lease]) -> Refused | None:
    """Return why ``quota`` refuses ``request`` beside the user's live ``leases``, or None."""
    if quota.max_gpus is None or request.options.gpus == 0:
        return None
    held = sum(len(lease.gpu_uuids) for lease in leases if lease.user == request.user)
    if held + request.options.gpus <= quota.max_gpus:
        return None
    left = max(quota.max_gpus - held, 0)
    advice = f"ask for {left} or fewer" if left else "start with 0 GPUs"
    return Refused(
        Reason.OVER_QUOTA,
        f"You asked for {count_gpus(request.options.gpus)} and hold {held}, but your quota is "
        f"{quota.max_gpus} at once: {advice}, or ask an admin to raise it.",
    )
