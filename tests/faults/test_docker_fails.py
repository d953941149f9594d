"""Docker does not answer, or badly: nobody is told nonsense, nothing is freed and nobody is stopped."""

import pytest

from spawner.model import LeaseState
from tests.fakes.docker_engine import Fault
from tests.faults.town import Person, Town, eventually


async def running(town: Town, name: str, gpus: int = 1) -> Person:
    person = await town.person(name)
    await person.start(gpus=gpus)
    return person


def stops(town: Town) -> list[tuple[str, str]]:
    return [call for call in town.engine.calls if call[0] in ("stop", "delete")]


async def test_docker_is_down_when_the_hub_starts(town: Town) -> None:
    alice = await running(town, "alice")
    before = town.container("alice").name
    town.engine.calls.clear()
    await town.engine.hang_up()
    await town.restart_hub()
    bob = await town.person("bob")
    refused = await bob.ask(gpus=1)
    print("REFUSED", refused.status_code, refused.headers, refused.text)
    assert (await alice.visit() or {})["container"] == before
    await town.engine.listen()
    await eventually(lambda: ("list", "") in town.engine.calls, "the hub reconciles")
    await bob.start(gpus=1)
    assert await alice.is_ready()
    assert (await alice.visit() or {})["container"] == before
    assert town.lease("alice").state is LeaseState.RUNNING
    assert stops(town) == []
    assert town.container("bob").name != before
