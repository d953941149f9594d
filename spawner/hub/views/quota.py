"""Quota view: builds one user's effective quota with its sources, its use and the refusals to expect.

The rules are in ``policy``; no GPU is claimed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from spawner.hub.schema.quotas import EffectiveQuotaJson
from spawner.hub.workbench import Workbench
from spawner.ledger.quotas import Entitlement, Owner
from spawner.model import Options, Quota, Reason, Refused, Request, Unknown
from spawner.policy.admission import count_kinds
from spawner.policy.formatting import format_gpu_count, format_hours
from spawner.policy.quota_check import (
    check_quota,
    coming_gpu_hours,
    count_group_gpus,
    count_user_gpus,
    gpu_hours_left,
)
from spawner.policy.quota_rows import FieldExplanation, explain_quota, quota_fields


@dataclass(frozen=True)
class QuotaView:
    """The effective quota of ``owner``.

    ``gpus`` counts held and requested GPUs. ``hours_held`` is the GPU-hours of the window, ``hours_coming`` the rest
    of the current leases, ``hours_left`` what is still allowed (None: no limit). ``over`` lists what exceeds the
    quota, ``refused`` the refusals that too large a request would get now.
    """

    owner: Owner
    quota: Quota
    explained: tuple[FieldExplanation, ...]
    gpus: int
    hours_held: float
    hours_coming: float
    hours_left: float | None
    over: tuple[str, ...]
    refused: tuple[str, ...]

    def as_json(self) -> EffectiveQuotaJson:
        """Return the quota in the API's form."""
        values = {
            field.name: getattr(self.quota, field.name)
            for field in quota_fields()
            if not field.is_for_groups
        }
        return {
            "user": self.owner.name,
            "groups": list(self.owner.groups),
            "quota": {**values, "caps": {cap.group: cap.total_gpus for cap in self.quota.caps}},
            "explained": [
                {"field": one.field, "what": one.what, "why": one.why} for one in self.explained
            ],
            "gpus": self.gpus,
            "gpu_hours_held": self.hours_held,
            "gpu_hours_coming": self.hours_coming,
            "gpu_hours_left": self.hours_left,
            "over_quota": list(self.over),
            "refused_now": list(self.refused),
        }


async def read_entitlement(workbench: Workbench, owner: Owner) -> Entitlement:
    """Return the quota rows, leases and hours that apply to ``owner`` now; raises Unknown."""
    return await asyncio.to_thread(
        workbench.ledger.entitlement, owner, workbench.settings.quota, now=workbench.clock()
    )


async def build_quota_view(workbench: Workbench, owner: Owner) -> QuotaView:
    """Return the quota of ``owner`` now; raises Unknown when the ledger does not answer."""
    entitled = await read_entitlement(workbench, owner)
    quota, leases, now = entitled.quota, entitled.leases, workbench.clock()
    try:
        kinds = count_kinds(await workbench.gpus.inventory())
    except Unknown:
        kinds = {}  # the number of GPUs only bounds the preview, the quota is valid without it
    own = [lease for lease in leases if lease.user == owner.name]
    return QuotaView(
        owner=owner,
        quota=quota,
        explained=explain_quota(entitled.effective, entitled.rows, owner.subject, owner.groups),
        gpus=count_user_gpus(owner.name, leases),
        hours_held=round(entitled.held, 2),
        hours_coming=round(coming_gpu_hours(own, now), 2),
        hours_left=_round(gpu_hours_left(owner.name, quota, leases, entitled.held, now)),
        over=tuple(_format_excess(owner, entitled)),
        refused=tuple(
            _preview_refusals(
                owner, entitled, workbench.offered.releases, max(kinds.values(), default=1), now
            )
        ),
    )


def _round(number: float | None) -> float | None:
    return None if number is None else round(number, 2)


def _format_excess(owner: Owner, entitled: Entitlement) -> Iterable[str]:
    quota, own = entitled.quota, count_user_gpus(owner.name, entitled.leases)
    if quota.max_gpus is not None and own > quota.max_gpus:
        yield f"{format_gpu_count(own)} held or waited for, {quota.max_gpus} allowed"
    for cap in quota.caps:
        held = count_group_gpus(cap.group, entitled.leases)
        if held > cap.total_gpus:
            yield f"group {cap.group}: {format_gpu_count(held)} held or waited for, {cap.total_gpus} allowed"
    if quota.gpu_hours is not None and entitled.held > quota.gpu_hours:
        yield f"{entitled.held:.1f} GPU-hours held, {quota.gpu_hours:g} allowed"


def _preview_refusals(
    owner: Owner, entitled: Entitlement, releases: Iterable[str], gpus: int, now: float
) -> Iterable[str]:
    """Yield the refusal for the smallest refused number of GPUs, for too many hours, and for each release."""
    allowed = entitled.quota.releases
    release = next((one for one in releases if allowed is None or one in allowed), "")
    for options in (
        *(Options(release, count) for count in range(1, gpus + 1)),
        Options(release, gpus + 1),
    ):
        refused = _check(owner, entitled, options, now)
        if refused is not None:
            yield refused.message
            break
    longest = entitled.quota.max_lease_hours
    yield f"More than {format_hours(longest)} at a time with GPUs."
    for name in releases:
        refused = _check(owner, entitled, Options(name, 0), now)
        if refused is not None and refused.reason is Reason.RELEASE_NOT_ALLOWED:
            yield f"Release {name}."


def _check(owner: Owner, entitled: Entitlement, options: Options, now: float) -> Refused | None:
    request = Request(owner.name, "", options, owner.identity, owner.groups)
    return check_quota(request, entitled.quota, entitled.leases, held=entitled.held, now=now)
