"""The spawn form: what can be chosen, what is free, who holds the rest and how long one would wait.

Only a view of the options' schema; a count that can never be had is shown disabled with its reason.
Kinds of GPU are told apart only where there are MIG instances.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
from jupyterhub.spawner import Spawner

from spawner.catalog import Release
from spawner.hub.identity import own
from spawner.hub.views.queue import Viewer
from spawner.hub.views.timestamps import Timestamp
from spawner.hub.views.availability import GpuOffer, Offer, make_offer
from spawner.hub.views.quota import read_entitlement
from spawner.hub.views.compatibility_view import judge_releases
from spawner.hub.workbench import Workbench
from spawner.model import GpuHealth, Options, OptionsError, Quota
from spawner.policy.quota import LEAST_USEFUL_HOURS
from spawner.policy.formatting import count_gpus, name_gpu, say_duration

TEMPLATES = Path(__file__).parents[1] / "templates"

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
)
ToWall = Callable[[float], float]
"""Lease clock → wall clock."""


@dataclass(frozen=True)
class Choice:
    """One number of GPUs of one kind; ``reason`` says why it can never be had, None when it can.

    ``value`` is what the form sends for it. ``position`` is the place in line that it would get, None when it starts
    at once; ``about`` is when its turn comes.
    """

    count: int
    mig_profile: str | None
    label: str
    reason: str | None
    position: int | None
    about: Timestamp | None
    is_chosen: bool

    @property
    def value(self) -> str:
        """``"2"`` for GPUs, ``"2 1g.10gb"`` for MIG instances."""
        return f"{self.count}" if self.mig_profile is None else f"{self.count} {self.mig_profile}"


@dataclass(frozen=True)
class GpuCard:
    """One GPU in words; ``state`` is ``free``, ``held`` or ``down``, ``until`` when its lease ends."""

    title: str
    name: str
    memory: str
    is_simulated: bool
    state: str
    who: str
    until: Timestamp | None


def read_form(form_data: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the form's fields as the values they stand for; what does not look like a number stays text."""
    options: dict[str, Any] = {
        key: values[0] if len(values) == 1 else values
        for key, values in form_data.items()
        if key != "_xsrf"
    }
    gpus, hours = options.get("gpus"), options.get("hours")
    if isinstance(gpus, str):
        count, _, profile = gpus.partition(" ")
        if count.isascii() and count.isdecimal() and len(count) < 10:
            options["gpus"] = int(count)
            if profile:
                options["mig_profile"] = profile
    if isinstance(hours, str) and len(hours) < 10 and hours.isascii():
        whole, _, part = hours.partition(".")
        if whole.isdecimal() and (part.isdecimal() or "." not in hours):
            options["hours"] = float(hours)
    return options


def build_choices(offer: Offer, wanted: Options, to_wall: ToWall) -> tuple[Choice, ...]:
    """Return no GPU, and each number of each kind that there is.

    Chosen is the largest possible number up to the one ``wanted``, of the kind wanted.
    """
    every: list[tuple[str | None, int]] = [(None, 0)]
    every += [(kind.mig_profile, n) for kind in offer.kinds for n in range(1, kind.total + 1)]
    fitting = (
        (profile, count)
        for profile, count in every
        if count == 0
        or (
            profile == wanted.mig_profile
            and count <= wanted.gpus
            and not _why_not(profile, count, offer)
        )
    )
    chosen = max(fitting, key=lambda choice: choice[1])
    return tuple(
        _build_choice(profile, count, offer, to_wall, is_chosen=(profile, count) == chosen)
        for profile, count in every
    )


def _build_choice(
    profile: str | None, count: int, offer: Offer, to_wall: ToWall, *, is_chosen: bool
) -> Choice:
    place = offer.waits.get((profile, count))
    starts_at = None if place is None else place.starts_at
    return Choice(
        count=count,
        mig_profile=profile,
        label=count_gpus(count, profile) if count else "No GPU",
        reason=_why_not(profile, count, offer),
        position=None if place is None else place.position,
        about=None if starts_at is None else Timestamp(to_wall(starts_at)),
        is_chosen=is_chosen,
    )


def _why_not(profile: str | None, count: int, offer: Offer) -> str | None:
    kind = next((kind for kind in offer.kinds if kind.mig_profile == profile), None)
    if kind is not None and count > kind.total - kind.drained:
        return f"{kind.drained} of {kind.total} drained"
    most = offer.quota.max_gpus
    if count and most is not None and offer.own + count > most:
        holds = f", you have {offer.own}" if offer.own else ""
        return f"your quota is {most}{holds}"
    for cap in offer.quota.caps:
        held = offer.groups.get(cap.group, 0)
        if count and held + count > cap.total_gpus:
            return f"group {cap.group} has {held} of its {cap.total_gpus}"
    left = offer.hours_left
    if count and left is not None and left < count * LEAST_USEFUL_HOURS:
        return f"{left:.1f} GPU-hours left of your quota"
    return None


def build_card(offer: GpuOffer, viewer: Viewer, to_wall: ToWall) -> GpuCard:
    """Return ``offer`` in words, as ``viewer`` may read them."""
    gpu, lease = offer.gpu, offer.lease
    said, until = [], None
    if offer.quarantine is not None:
        said.append(f"quarantined: it {offer.quarantine.reason}")
    elif gpu.health is not GpuHealth.OK and lease is None:
        said.append("does not answer: nobody can have it")
    if offer.drain is not None:
        said.append(f"drained: {offer.drain.reason}")
    if lease is not None and lease.ended_at is not None:
        said.append(f"being given back by {viewer.call(lease.user)}")
    elif lease is not None:
        said.append(f"held by {viewer.call(lease.user)}")
        until = None if lease.ends_at is None else Timestamp(to_wall(lease.ends_at))
    held = "down" if offer.quarantine is not None else "held"
    total = gpu.memory_total_bytes
    return GpuCard(
        title=name_gpu(gpu),
        name=gpu.name if gpu.mig_profile is None else f"{gpu.mig_profile} · {gpu.name}",
        memory="memory unknown" if total is None else f"{total / 1024**3:.0f} GiB",
        is_simulated=gpu.is_simulated,
        state="free" if offer.is_free else "down" if lease is None else held,
        who=", ".join(said) or "free",
        until=until,
    )


async def render_form(workbench: Workbench, spawner: Spawner) -> str:
    """Return the form's HTML for the owner of ``spawner``, with their last choice preselected."""
    try:
        last = workbench.parse(spawner.user_options)
    except OptionsError:
        last = workbench.parse({})
    owner = own(spawner.user)
    entitled = await read_entitlement(workbench, owner)
    most_hours = entitled.quota.max_lease_hours
    hours = min(_asked_hours(workbench, spawner) or last.hours or most_hours, most_hours)
    offer = await make_offer(workbench, owner, entitled, hours)
    if not spawner.user_options and offer.kinds:  # the first time one of whatever there is
        last = replace(last, gpus=1, mig_profile=offer.kinds[0].mig_profile)
    return render(
        offer,
        _allowed(workbench.offered.releases, entitled.quota),
        replace(last, hours=hours),
        Viewer(spawner.user.name, workbench.settings.show_line_names),
        workbench.clock.to_wall,
    )


def _asked_hours(workbench: Workbench, spawner: Spawner) -> float | None:
    """Return the hours in the form's address, for which the page asks anew whenever somebody changes them."""
    handler = spawner.handler
    asked = {} if handler is None else {"hours": handler.get_query_arguments("hours")}
    try:
        return workbench.parse(read_form(asked)).hours
    except OptionsError:
        return None


def _allowed(releases: Mapping[str, Release], quota: Quota) -> dict[str, Release]:
    return {
        name: release
        for name, release in releases.items()
        if quota.releases is None or name in quota.releases
    }


def render(
    offer: Offer, releases: Mapping[str, Release], last: Options, viewer: Viewer, to_wall: ToWall
) -> str:
    """Return the HTML of ``offer`` and ``releases``; ``last`` is what is preselected."""
    cards = tuple(build_card(gpu, viewer, to_wall) for gpu in offer.gpus)
    most_hours = offer.quota.max_lease_hours
    return _templates.get_template("spawn_form.html").render(
        releases=judge_releases(releases, [offered.gpu for offered in offer.gpus]),
        chosen_release=last.release,
        choices=build_choices(offer, last, to_wall),
        kinds=offer.kinds,
        cards=cards,
        simulated=any(card.is_simulated for card in cards),
        own=offer.own,
        most=offer.quota.max_gpus,
        gpu_hours_left=None if offer.hours_left is None else f"{offer.hours_left:.1f}",
        hours=f"{last.hours or most_hours:g}",
        least_hours=f"{min(0.25, most_hours):g}",
        most_hours=f"{most_hours:g}",
        error=offer.error,
        when_idle=last.when_idle.value,
        idle_after=offer.idle and say_duration(offer.idle.minutes * 60),
        idle_warning=offer.idle and say_duration(offer.idle.warning_minutes * 60),
        now=time.time(),
    )
