"""Admission: decides whether a request may enter the queue.

It refuses only a request that can never be granted. A request that has to wait is admitted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence

from spawner.model import Gpu, Lease, Quota, Reason, Refused, Request
from spawner.policy.formatting import format_gpu_count, format_kinds
from spawner.policy.quota_check import check_quota


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
    """Return the refusal of ``request``, or None if it is admitted.

    ``leases`` are the live leases of the user and of each group that has a total. ``held`` is the argument of
    ``check_quota``. ``gpus`` are all GPUs of the workbench; a failed GPU counts, because it may recover before the
    grant. A UUID in ``drained`` does not count, because its return is unknown.
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
        asked = format_gpu_count(options.gpus, options.mig_profile)
        has = existing or format_kinds(kinds)
        advice = (
            "ask for fewer" if existing else "choose one of them" if kinds else "ask for 0 GPUs"
        )
        more = count_kinds(gpus).get(options.mig_profile, 0) - existing
        out = f" ({more} more {'is' if more == 1 else 'are'} drained)" if more else ""
        return Refused(
            Reason.NOT_ENOUGH_GPUS,
            f"You asked for {asked}, but this workbench has {has}{out}: {advice}.",
        )
    return check_quota(request, quota, leases, held=held, now=now)


def count_kinds(gpus: Iterable[Gpu]) -> dict[str | None, int]:
    """Return the number of GPUs by ``mig_profile``: whole GPUs first, then profiles from small to large."""
    counts = Counter(gpu.mig_profile for gpu in gpus)
    return {profile: counts[profile] for profile in sorted(counts, key=_rank_profile)}


def _rank_profile(profile: str | None) -> tuple[list[int], str]:
    name = profile or ""
    return [int(digits) for digits in re.findall(r"\d+", name)], name
