"""Docker is down, fails or is slow: who asks is told so in a sentence, nothing is freed and nobody is stopped."""

import asyncio
import time

from spawner.model import LeaseState
from tests.fakes.docker_engine import Fault
from tests.faults.people import Person, eventually
from tests.faults.town import Town

UNTOUCHED = ["create", "start"]


async def asked_again(town: Town, person: Person) -> None:
    """Let the hub look at a server that it believes running."""
    answer = await person.ask(gpus=1)
    assert (answer.status_code, "already running" in answer.text) == (400, True)


async def test_docker_is_down_when_the_hub_starts(town: Town) -> None:
    alice, bob = await town.running("alice"), await town.person("bob")
    hers = town.container("alice")
    await town.engine.hang_up()
    await town.restart_hub()
    refused = await bob.ask(gpus=1)
    assert (refused.status_code, refused.json()["message"]) == (
        503,
        "The hub cannot see Docker yet, so no server can start: try again in a minute.",
    )
    assert int(refused.headers["Retry-After"]) > 0
    assert (await alice.visit() or {})["container"] == hers.name
    await town.engine.listen()
    await eventually(lambda: bob.can_start(gpus=1), "spawns are admitted")
    assert await alice.is_ready()
    assert (await alice.visit() or {})["container"] == hers.name
    assert town.lease("alice").state is LeaseState.RUNNING
    assert town.done_to(hers) == UNTOUCHED


async def test_errors_in_a_row_end_no_server(town: Town) -> None:
    alice = await town.running("alice")
    hers = town.container("alice")
    town.engine.plan("inspect", *[Fault.ERROR] * 3, subject=hers.name)
    for _ in range(3):
        await asked_again(town, alice)
    town.engine.plan("events", *[Fault.ERROR] * 3)
    town.engine.plan("inspect", *[Fault.ERROR] * 3, subject=hers.name)
    town.engine.events.cut()
    await eventually(lambda: town.engine.events.listeners, "the hub listens again")
    town.engine.plan("inspect", *[Fault.ERROR] * 3, subject=hers.name)
    town.engine.plan("list", *[Fault.ERROR] * 3)
    await town.restart_hub()
    await eventually(alice.is_ready, "the next hub knows the server")
    await asked_again(town, alice)
    assert (await alice.visit() or {})["container"] == hers.name
    assert town.lease("alice").state is LeaseState.RUNNING
    assert town.done_to(hers) == UNTOUCHED


async def test_one_error_at_any_call_costs_at_most_one_start(one_gpu: Town) -> None:
    town = one_gpu
    alice = await town.running("alice")
    await alice.stop()
    for operation in ("image", "create", "inspect", "start", "stop", "delete"):
        town.engine.plan(operation, Fault.ERROR)
        answer = await alice.ask(gpus=1)
        if not answer.is_success:
            assert answer.status_code == 503, answer.text
            assert answer.json()["message"].startswith("Docker failed to "), answer.text
            assert int(answer.headers["Retry-After"]) > 0
            await eventually(lambda: alice.can_start(gpus=1), f"{operation} failed only once")
        assert town.container("alice").is_running
        await alice.stop()
        assert town.engine.containers == {}
        assert await town.audit() == ()
    assert town.lease("alice").gpu_uuids == (town.gpu_uuids[0],)


async def test_one_slow_call_keeps_nobody_waiting(town: Town) -> None:
    alice, bob, cyd = (
        await town.running("alice"),
        await town.person("bob"),
        await town.person("cyd"),
    )

    async def seconds_of_five_lives() -> float:
        began = time.monotonic()
        for _ in range(5):
            await bob.start(gpus=1)
            await bob.stop()
        return time.monotonic() - began

    await seconds_of_five_lives()  # the home is prepared
    undisturbed = await seconds_of_five_lives()
    town.engine.plan("stop", Fault.HANG, subject=town.container("alice").name)
    town.engine.plan("create", Fault.HANG)
    late = [
        asyncio.create_task(cyd.ask(gpus=0)),
        asyncio.create_task(alice.api("DELETE", "/users/alice/server")),
    ]
    await eventually(lambda: len(town.engine.faults.held) == 2, "two calls hang")
    assert await seconds_of_five_lives() < 3 * undisturbed
    assert len(town.engine.faults.held) == 2
    town.engine.release()
    await asyncio.gather(*late)
    await eventually(lambda: town.engine.containers == {}, "nothing is left of them")
