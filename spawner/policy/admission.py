"""Whether a request may stand in line at all.

Refused is only what can never be granted as it is asked; what merely has to wait is admitted.
"""

from __future__ import annotations

from collections.abc import Sequence

from spawner.model import Gpu, Lease, Quota, Reason, Refused, Request
from spawner.policy.quota import check_quota
from spawner.policy.words import count_gpus


def admit(
    request: Request, *, gpus: Sequence[Gpu], leases: Sequence[Lease], quota: Quota
) -> Refused | None:
    """Return why ``request`` cannot be admitted beside the live ``leases``, or None.

    ``gpus`` are all GPUs of the workbench, healthy or not: one that is ill may be back before the request's turn.
    """
    asked = request.options.gpus
    if any((lease.user, lease.server) == (request.user, request.server) for lease in leases):
        return Refused(
            Reason.ALREADY_HELD,
            "Your previous server is still being removed: try again in a minute.",
        )
    if asked > len(gpus):
        return Refused(
            Reason.NOT_ENOUGH_GPUS,
            f"You asked for {count_gpus(asked)}, but this workbench has {len(gpus)}: ask for fewer.",
        )
    return check_quota(request, quota, leases)
