"""The spawn form: what can be chosen, what is free, who holds the rest and how long one would wait.

Only a view of the options' schema; a count that can never be had is shown disabled with its reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from spawner.hub.line_view import Viewer
from spawner.hub.moments import Moment
from spawner.hub.offer import GpuOffer, Offer, make_offer
from spawner.hub.workbench import Workbench
from spawner.model import GpuHealth, Options, OptionsError
from spawner.policy.words import count_gpus

if TYPE_CHECKING:
    from spawner.hub.spawner import WorkbenchSpawner

TEMPLATES = Path(__file__).parent / "templates"

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
)
ToWall = Callable[[float], float]
"""Lease clock → wall clock."""


@dataclass(frozen=True)
class Choice:
    """One number of GPUs; ``reason`` says why it can never be had, None when it can.

    ``position`` is the place in line that it would get, None when it starts at once; ``about`` is when its turn comes.
    """

    count: int
    label: str
    reason: str | None
    position: int | None
    about: Moment | None
    is_chosen: bool


@dataclass(frozen=True)
class GpuCard:
    """One GPU in words; ``state`` is ``free``, ``held`` or ``down``, ``until`` when its lease ends."""

    index: int
    name: str
    memory: str
    is_simulated: bool
    state: str
    who: str
    until: Moment | None


def read_form(form_data: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the form's fields as the values they stand for; what does not look like a number stays text."""
    options: dict[str, Any] = {
        key: values[0] if len(values) == 1 else values
        for key, values in form_data.items()
        if key != "_xsrf"
    }
    gpus, hours = options.get("gpus"), options.get("hours")
    if isinstance(gpus, str) and gpus.isascii() and gpus.isdecimal() and len(gpus) < 10:
        options["gpus"] = int(gpus)
    if isinstance(hours, str) and len(hours) < 10 and hours.isascii():
        whole, _, part = hours.partition(".")
        if whole.isdecimal() and (part.isdecimal() or "." not in hours):
            options["hours"] = float(hours)
    return options


def build_choices(offer: Offer, wanted: int, to_wall: ToWall) -> tuple[Choice, ...]:
    """Return the counts from 0 to all GPUs; the largest possible one up to ``wanted`` is chosen."""
    reasons = [_why_not(count, offer) for count in range(len(offer.gpus) + 1)]
    chosen = max(
        count for count, reason in enumerate(reasons) if reason is None and count <= wanted
    )
    return tuple(
        _build_choice(count, reason, offer, to_wall, is_chosen=count == chosen)
        for count, reason in enumerate(reasons)
    )


def _build_choice(
    count: int, reason: str | None, offer: Offer, to_wall: ToWall, *, is_chosen: bool
) -> Choice:
    place = offer.places.get(count)
    waits = place is not None and place.gpu_uuids is None
    starts_at = place.starts_at if place is not None and waits else None
    return Choice(
        count=count,
        label=count_gpus(count) if count else "No GPU",
        reason=reason,
        position=place.position if place is not None and waits else None,
        about=None if starts_at is None else Moment(to_wall(starts_at)),
        is_chosen=is_chosen,
    )


def _why_not(count: int, offer: Offer) -> str | None:
    most = offer.quota.max_gpus
    if count and most is not None and offer.own + count > most:
        holds = f", you have {offer.own}" if offer.own else ""
        return f"your quota is {most}{holds}"
    return None


def build_card(offer: GpuOffer, viewer: Viewer, to_wall: ToWall) -> GpuCard:
    """Return ``offer`` in words, as ``viewer`` may read them."""
    gpu, lease = offer.gpu, offer.lease
    total, until = gpu.memory_total_bytes, None
    if lease is not None and lease.ended_at is not None:
        state, who = "held", f"being given back by {viewer.call(lease.user)}"
    elif lease is not None:
        state, who = "held", f"held by {viewer.call(lease.user)}"
        until = None if lease.ends_at is None else Moment(to_wall(lease.ends_at))
    elif gpu.health is GpuHealth.OK:
        state, who = "free", "free"
    else:
        state, who = "down", "does not answer: nobody can have it"
    return GpuCard(
        index=gpu.index,
        name=gpu.name,
        memory="memory unknown" if total is None else f"{total / 1024**3:.0f} GiB",
        is_simulated=gpu.is_simulated,
        state=state,
        who=who,
        until=until,
    )


async def render_form(workbench: Workbench, spawner: WorkbenchSpawner) -> str:
    """Return the form's HTML for the owner of ``spawner``, with their last choice preselected."""
    try:
        last = workbench.parse(spawner.user_options)
    except OptionsError:
        last = workbench.parse({})
    wanted = last.gpus if spawner.user_options else 1
    most_hours = workbench.settings.quota.max_lease_hours
    hours = min(last.hours or most_hours, most_hours)
    offer = await make_offer(workbench, spawner.user.name, hours)
    return render(
        offer,
        workbench.catalog.releases,
        Options(last.release, wanted, hours),
        Viewer(spawner.user.name, workbench.settings.show_line_names),
        workbench.clock.to_wall,
    )


def render(
    offer: Offer, releases: Mapping[str, Any], last: Options, viewer: Viewer, to_wall: ToWall
) -> str:
    """Return the HTML of ``offer``; ``releases`` maps each release to something with a ``title``.

    ``last`` is what is preselected.
    """
    cards = tuple(build_card(gpu, viewer, to_wall) for gpu in offer.gpus)
    most_hours = offer.quota.max_lease_hours
    return _templates.get_template("spawn_form.html").render(
        releases=releases,
        chosen_release=last.release,
        choices=build_choices(offer, last.gpus, to_wall),
        cards=cards,
        free=sum(card.state == "free" for card in cards),
        own=offer.own,
        most=offer.quota.max_gpus,
        hours=f"{last.hours or most_hours:g}",
        least_hours=f"{min(0.25, most_hours):g}",
        most_hours=f"{most_hours:g}",
        error=offer.error,
        now=time.time(),
    )
