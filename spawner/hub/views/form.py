"""Spawn form: builds the choices, the free GPUs, their holders and the expected wait.

It is a view of the options' schema; a number of GPUs that can never be granted is shown disabled with its reason.
Kinds of GPU are distinguished only where MIG instances exist.
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
from spawner.hub.identity import quota_subject
from spawner.hub.views.availability import Availability, GpuAvailability, build_availability
from spawner.hub.views.compatibility_view import build_compatibility_view
from spawner.hub.views.queue import Viewer
from spawner.hub.views.quota import read_entitlement
from spawner.hub.views.timestamps import Timestamp
from spawner.hub.workbench import Workbench
from spawner.model import GpuHealth, Options, OptionsError, Quota
from spawner.policy.formatting import format_duration, format_gpu_count, format_gpu_name
from spawner.policy.quota_check import MIN_USEFUL_HOURS

TEMPLATES = Path(__file__).parents[1] / "templates"

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
)
ToWall = Callable[[float], float]
"""Converts lease-clock time to wall-clock time."""


@dataclass(frozen=True)
class Choice:
    """One number of GPUs of one kind; ``reason`` says why it can never be granted, None when it can.

    ``position`` is the position in the queue that it would get, None when it starts at once. ``about`` is the
    estimated start.
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
        """The form field's value: ``"2"`` for GPUs, ``"2 1g.10gb"`` for MIG instances."""
        return f"{self.count}" if self.mig_profile is None else f"{self.count} {self.mig_profile}"


@dataclass(frozen=True)
class GpuCard:
    """One GPU as text; ``state`` is ``free``, ``held`` or ``down``, ``until`` is the end of its lease."""

    title: str
    name: str
    memory: str
    is_simulated: bool
    state: str
    who: str
    until: Timestamp | None


def parse_form(form_data: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the form's fields as typed options; text that is not a number stays text for the schema to refuse."""
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


def build_choices(
    availability: Availability, wanted: Options, to_wall: ToWall
) -> tuple[Choice, ...]:
    """Return the choice "no GPU" and one choice for each number of each kind.

    The preselected choice is the largest possible number up to the one ``wanted``, of the kind wanted.
    """
    every: list[tuple[str | None, int]] = [(None, 0)]
    every += [
        (kind.mig_profile, n) for kind in availability.kinds for n in range(1, kind.total + 1)
    ]
    fitting = (
        (profile, count)
        for profile, count in every
        if count == 0
        or (
            profile == wanted.mig_profile
            and count <= wanted.gpus
            and not _explain_unavailable(profile, count, availability)
        )
    )
    chosen = max(fitting, key=lambda choice: choice[1])
    return tuple(
        _build_choice(profile, count, availability, to_wall, is_chosen=(profile, count) == chosen)
        for profile, count in every
    )


def _build_choice(
    profile: str | None, count: int, availability: Availability, to_wall: ToWall, *, is_chosen: bool
) -> Choice:
    queued = availability.positions.get((profile, count))
    starts_at = None if queued is None else queued.starts_at
    return Choice(
        count=count,
        mig_profile=profile,
        label=format_gpu_count(count, profile) if count else "No GPU",
        reason=_explain_unavailable(profile, count, availability),
        position=None if queued is None else queued.position,
        about=None if starts_at is None else Timestamp(to_wall(starts_at)),
        is_chosen=is_chosen,
    )


def _explain_unavailable(profile: str | None, count: int, availability: Availability) -> str | None:
    kind = next((kind for kind in availability.kinds if kind.mig_profile == profile), None)
    if kind is not None and count > kind.total - kind.drained:
        return f"an admin keeps {kind.drained} of {kind.total} out of use"
    most = availability.quota.max_gpus
    if count and most is not None and availability.claimed + count > most:
        holds = f", you have {availability.claimed}" if availability.claimed else ""
        return f"your quota is {most}{holds}"
    for cap in availability.quota.caps:
        held = availability.groups.get(cap.group, 0)
        if count and held + count > cap.total_gpus:
            return f"group {cap.group} has {held} of its {cap.total_gpus}"
    left = availability.hours_left
    if count and left is not None and left < count * MIN_USEFUL_HOURS:
        return f"{left:.1f} GPU-hours left of your quota"
    return None


def build_gpu_card(offer: GpuAvailability, viewer: Viewer, to_wall: ToWall) -> GpuCard:
    """Return the card of ``offer`` with the names that ``viewer`` may see."""
    gpu, lease = offer.gpu, offer.lease
    notes, until = [], None
    if offer.quarantine is not None:
        notes.append(f"out of use: it {offer.quarantine.reason}")
    elif gpu.health is not GpuHealth.OK and lease is None:
        notes.append("out of use: it does not answer")
    if offer.drain is not None:
        notes.append(f"taken out of use by an admin: {offer.drain.reason}")
    if lease is not None and lease.ended_at is not None:
        notes.append(f"being given back by {viewer.display_name(lease.user)}")
    elif lease is not None:
        notes.append(f"held by {viewer.display_name(lease.user)}")
        until = None if lease.ends_at is None else Timestamp(to_wall(lease.ends_at))
    held = "down" if offer.quarantine is not None else "held"
    total = gpu.memory_total_bytes
    return GpuCard(
        title=format_gpu_name(gpu),
        name=gpu.name if gpu.mig_profile is None else f"{gpu.mig_profile} · {gpu.name}",
        memory="memory unknown" if total is None else f"{total / 1024**3:.0f} GiB",
        is_simulated=gpu.is_simulated,
        state="free" if offer.is_free else "down" if lease is None else held,
        who=", ".join(notes) or "free",
        until=until,
    )


async def render_form(workbench: Workbench, spawner: Spawner) -> str:
    """Return the form's HTML for the owner of ``spawner``, with the last choice preselected."""
    try:
        last = workbench.parse(spawner.user_options)
    except OptionsError:
        last = workbench.parse({})
    owner = quota_subject(spawner.user)
    entitled = await read_entitlement(workbench, owner)
    most_hours = entitled.quota.max_lease_hours
    hours = min(_get_query_hours(workbench, spawner) or last.hours or most_hours, most_hours)
    availability = await build_availability(workbench, owner, entitled, hours)
    if not spawner.user_options and availability.kinds:  # the first start preselects one GPU
        last = replace(last, gpus=1, mig_profile=availability.kinds[0].mig_profile)
    return render(
        availability,
        _select_allowed(spawner.select_allowed(workbench.offered.releases), entitled.quota),
        replace(last, hours=hours),
        Viewer(spawner.user.name, workbench.settings.show_queue_names),
        workbench.clock.to_wall,
    )


def _get_query_hours(workbench: Workbench, spawner: Spawner) -> float | None:
    """Return the hours in the query; the page sends them when the user changes the field."""
    handler = spawner.handler
    asked = {} if handler is None else {"hours": handler.get_query_arguments("hours")}
    try:
        return workbench.parse(parse_form(asked)).hours
    except OptionsError:
        return None


def _select_allowed(releases: Mapping[str, Release], quota: Quota) -> dict[str, Release]:
    return {
        name: release
        for name, release in releases.items()
        if quota.releases is None or name in quota.releases
    }


def render(
    availability: Availability,
    releases: Mapping[str, Release],
    last: Options,
    viewer: Viewer,
    to_wall: ToWall,
) -> str:
    """Return the HTML for ``availability`` and ``releases``; ``last`` is preselected."""
    cards = tuple(build_gpu_card(gpu, viewer, to_wall) for gpu in availability.gpus)
    most_hours = availability.quota.max_lease_hours
    return _templates.get_template("spawn_form.html").render(
        releases=build_compatibility_view(releases, [offered.gpu for offered in availability.gpus]),
        chosen_release=last.release,
        choices=build_choices(availability, last, to_wall),
        kinds=availability.kinds,
        cards=cards,
        simulated=any(card.is_simulated for card in cards),
        claimed=availability.claimed,
        most=availability.quota.max_gpus,
        gpu_hours_left=None
        if availability.hours_left is None
        else f"{availability.hours_left:.1f}",
        hours=f"{last.hours or most_hours:g}",
        least_hours=f"{min(0.25, most_hours):g}",
        most_hours=f"{most_hours:g}",
        error=availability.error,
        when_idle=last.when_idle.value,
        idle_after=availability.idle and format_duration(availability.idle.minutes * 60),
        idle_warning=availability.idle and format_duration(availability.idle.warning_minutes * 60),
        now=time.time(),
    )
