"""The spawn form: what can be chosen, what is free and who holds the rest.

Only a view of the options' schema; a count that cannot be had now is shown disabled with its reason.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from spawner.controller import GpuOffer, Offer
from spawner.hub.workbench import Workbench
from spawner.model import GpuHealth, OptionsError
from spawner.policy.words import count_gpus, say_duration

if TYPE_CHECKING:
    from spawner.hub.spawner import WorkbenchSpawner

TEMPLATES = Path(__file__).parent / "templates"

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
)


@dataclass(frozen=True)
class Choice:
    """One number of GPUs; ``reason`` says why it cannot be had now, None when it can."""

    count: int
    label: str
    reason: str | None
    is_chosen: bool


@dataclass(frozen=True)
class GpuCard:
    """One GPU in words; ``state`` is ``free``, ``held`` or ``down``."""

    index: int
    name: str
    memory: str
    is_simulated: bool
    state: str
    who: str


def build_choices(offer: Offer, wanted: int) -> tuple[Choice, ...]:
    """Return the counts from 0 to all GPUs; the largest possible one up to ``wanted`` is chosen."""
    free = sum(gpu.is_free for gpu in offer.gpus)
    reasons = [_why_not(count, free, offer) for count in range(len(offer.gpus) + 1)]
    chosen = max(
        count for count, reason in enumerate(reasons) if reason is None and count <= wanted
    )
    return tuple(
        Choice(count, count_gpus(count) if count else "No GPU", reason, count == chosen)
        for count, reason in enumerate(reasons)
    )


def _why_not(count: int, free: int, offer: Offer) -> str | None:
    most = offer.quota.max_gpus
    if count and most is not None and offer.held_by_user + count > most:
        holds = f", you hold {offer.held_by_user}" if offer.held_by_user else ""
        return f"your quota is {most}{holds}"
    if count > free:
        return "none is free now" if not free else f"only {free} free now"
    return None


def build_card(offer: GpuOffer, now: float) -> GpuCard:
    """Return ``offer`` in words; ``now`` is seconds since the Unix epoch."""
    gpu = offer.gpu
    total = gpu.memory_total_bytes
    if offer.holder is not None:
        since = "" if offer.since is None else f" for {say_duration(now - offer.since)}"
        state, who = "held", f"held by {offer.holder}{since}"
    elif gpu.health is GpuHealth.OK:
        state, who = "free", "free: anyone can have it now"
    else:
        state, who = "down", "does not answer: nobody can have it"
    return GpuCard(
        index=gpu.index,
        name=gpu.name,
        memory="memory unknown" if total is None else f"{total / 1024**3:.0f} GiB",
        is_simulated=gpu.is_simulated,
        state=state,
        who=who,
    )


async def render_form(workbench: Workbench, spawner: WorkbenchSpawner) -> str:
    """Return the form's HTML for the owner of ``spawner``, with their last choice preselected."""
    offer = await workbench.controller.offer(spawner.user.name)
    try:
        last = workbench.parse(spawner.user_options)
    except OptionsError:
        last = workbench.parse({})
    wanted = last.gpus if spawner.user_options else 1
    return render(offer, workbench.catalog.releases, last.release, wanted, time.time())


def render(offer: Offer, releases: Mapping[str, Any], release: str, wanted: int, now: float) -> str:
    """Return the HTML of ``offer``; ``releases`` maps each release to something with a ``title``."""
    cards = tuple(build_card(gpu, now) for gpu in offer.gpus)
    return _templates.get_template("spawn_form.html").render(
        releases=releases,
        chosen_release=release,
        choices=build_choices(offer, wanted),
        cards=cards,
        free=sum(card.state == "free" for card in cards),
        held_by_user=offer.held_by_user,
        most=offer.quota.max_gpus,
        error=offer.error,
    )
