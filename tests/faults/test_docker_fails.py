"""Docker is down, fails or is slow: requests get one sentence, no GPU is freed and no server is stopped."""

import asyncio
import time

from spawner.model import LeaseState
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from testing.people import Person
from testing.process_stack import ProcessStack

UNTOUCHED = ["create", "start"]


async def request_running_server(stack: ProcessStack, person: Person) -> None:
    """Let the hub look at a server that it believes running."""
    answer = await person.request_server(gpus=1)
    assert (answer.status_code, "already running" in answer.text) == (400, True)


async def test_docker_is_down_when_the_hub_starts(stack: ProcessStack) -> None:
    alice, bob = await stack.running("alice"), await stack.person("bob")
    hers = stack.container("alice")
    await stack.engine.hang_up()
    await stack.restart_hub()
    refused = await bob.request_server(gpus=1)
    assert (refused.status_code, refused.json()["message"]) == (
        503,
        "The hub cannot see Docker yet, so no server can start: try again in a minute.",
    )
    assert int(refused.headers["Retry-After"]) > 0
    assert (await alice.visit() or {})["container"] == hers.name
    await stack.engine.listen()
    await eventually(lambda: bob.can_start(gpus=1), "spawns are admitted")
    assert await alice.is_ready()
    assert (await alice.visit() or {})["container"] == hers.name
    assert stack.lease("alice").state is LeaseState.RUNNING
    assert stack.done_to(hers) == UNTOUCHED


async def test_errors_in_a_row_end_no_server(stack: ProcessStack) -> None:
    alice = await stack.running("alice")
    hers = stack.container("alice")
    stack.engine.plan("inspect", *[Fault.ERROR] * 3, subject=hers.name)
    for _ in range(3):
        await request_running_server(stack, alice)
    stack.engine.plan("events", *[Fault.ERROR] * 3)
    stack.engine.plan("inspect", *[Fault.ERROR] * 3, subject=hers.name)
    stack.engine.events.cut()
    await eventually(lambda: stack.engine.events.listeners, "the hub listens again")
    stack.engine.plan("inspect", *[Fault.ERROR] * 3, subject=hers.name)
    stack.engine.plan("list", *[Fault.ERROR] * 3)
    await stack.restart_hub()
    await eventually(alice.is_ready, "the next hub knows the server")
    await request_running_server(stack, alice)
    assert (await alice.visit() or {})["container"] == hers.name
    assert stack.lease("alice").state is LeaseState.RUNNING
    assert stack.done_to(hers) == UNTOUCHED


async def test_one_error_at_any_call_costs_at_most_one_start(one_gpu: ProcessStack) -> None:
    stack = one_gpu
    alice = await stack.running("alice")
    await alice.stop()
    for operation in ("image", "create", "inspect", "start", "stop", "delete"):
        stack.engine.plan(operation, Fault.ERROR)
        answer = await alice.request_server(gpus=1)
        if not answer.is_success:
            assert answer.status_code == 503, answer.text
            assert answer.json()["message"].startswith("Docker failed to "), answer.text
            assert int(answer.headers["Retry-After"]) > 0
            await eventually(lambda: alice.can_start(gpus=1), f"{operation} failed only once")
        assert stack.container("alice").is_running
        await alice.stop()
        assert stack.engine.containers == {}
        assert await stack.audit() == ()
    assert stack.lease("alice").gpu_uuids == (stack.gpu_uuids[0],)


async def test_one_slow_call_keeps_no_one_waiting(stack: ProcessStack) -> None:
    alice, bob, cyd = (
        await stack.running("alice"),
        await stack.person("bob"),
        await stack.person("cyd"),
    )

    async def seconds_of_five_lives() -> float:
        began = time.monotonic()
        for _ in range(5):
            await bob.start(gpus=1)
            await bob.stop()
        return time.monotonic() - began

    await seconds_of_five_lives()  # the home is prepared
    undisturbed = await seconds_of_five_lives()
    stack.engine.plan("stop", Fault.HANG, subject=stack.container("alice").name)
    stack.engine.plan("create", Fault.HANG)
    late = [
        asyncio.create_task(cyd.request_server(gpus=0)),
        asyncio.create_task(alice.api("DELETE", "/users/alice/server")),
    ]
    await eventually(lambda: len(stack.engine.faults.held) == 2, "two calls hang")
    assert await seconds_of_five_lives() < 3 * undisturbed
    assert len(stack.engine.faults.held) == 2
    stack.engine.release()
    await asyncio.gather(*late)
    await eventually(lambda: stack.engine.containers == {}, "nothing is left of them")
