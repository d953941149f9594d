"""Whether a request may stand in line at all.

Refused is only what can never be granted as it is asked; what merely has to wait is admitted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence

from spawner.model import Gpu, Lease, Quota, Reason, Refused, Request
from spawner.policy.quota import check_quota
from spawner.policy.formatting import count_gpus, say_kinds


def admit(
    request: Request,
    *,
    gpus: Sequence[Gpu],
    leases: Sequence[Lease],
    quota: Quota,
    held: float = 0.0,
    now: float = 0.0,
    drained: Container[str] = (),
) -> Refused | None:
    """Return why ``request`` cannot be admitted beside the live ``leases``, or None.

    They are those of the user and of groups that have a total; ``held`` is as ``check_quota`` has it.

    ``gpus`` are all GPUs of the workbench, healthy or not: one that is ill may be back before the request's turn.
    Those whose UUIDs are ``drained`` are not counted: nobody knows whether they come back.
    """
    options = request.options
    if any((lease.user, lease.server) == (request.user, request.server) for lease in leases):
        return Refused(
            Reason.ALREADY_HELD,
            "Your previous server is still being removed: try again in a minute.",
        )
    kinds = count_kinds(gpu for gpu in gpus if gpu.uuid not in drained)
    existing = kinds.get(options.mig_profile, 0)
    if options.gpus > existing:
        asked = count_gpus(options.gpus, options.mig_profile)
        has = existing or say_kinds(kinds)
        advice = "ask for fewer" if existing else "choose of these" if kinds else "ask for 0 GPUs"
        more = count_kinds(gpus).get(options.mig_profile, 0) - existing
        out = f" ({more} more {'is' if more == 1 else 'are'} drained)" if more else ""
        return Refused(
            Reason.NOT_ENOUGH_GPUS,
            f"You asked for {asked}, but this workbench has {has}{out}: {advice}.",
        )
    return check_quota(request, quota, leases, held=held, now=now)


def count_kinds(gpus: Iterable[Gpu]) -> dict[str | None, int]:
    """Return how many there are of each ``mig_profile``: whole GPUs first, the profiles from small to large."""
    counts = Counter(gpu.mig_profile for gpu in gpus)
    return {profile: counts[profile] for profile in sorted(counts, key=_rank_profile)}


def _rank_profile(profile: str | None) -> tuple[list[int], str]:
    name = profile or ""
    return [int(digits) for digits in re.findall(r"\d+", name)], name
