"""Containers change without the hub: no user ever reaches another user's server."""

import asyncio
from functools import partial

from spawner.model import Cause, LeaseState
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from testing.process_stack import ProcessStack

REQUESTS = 1000
AT_ONCE = 20


async def test_a_reused_address_leads_no_one_astray(stack: ProcessStack) -> None:
    alice, bob = await stack.running("alice"), await stack.running("bob")
    await bob.stop()  # his home is prepared
    hers = stack.container("alice")
    address = stack.network.addresses[hers.name]
    stack.engine.plan("start", Fault.LATE)
    starting = asyncio.create_task(bob.request_server(gpus=1))
    await eventually(lambda: stack.engine.faults.held, "his server is about to start")
    answers: list[dict[str, str] | None] = []
    semaphore = asyncio.Semaphore(AT_ONCE)

    async def visit() -> None:
        async with semaphore:
            answers.append(await alice.visit())

    visits = [asyncio.create_task(visit()) for _ in range(REQUESTS)]
    await eventually(lambda: len(answers) > AT_ONCE, "some reached hers")
    stack.engine.vanish(hers.name)
    stack.engine.release()
    his = stack.container("bob")
    await eventually(lambda: his.is_running, "his server runs")
    before = len(answers)
    assert stack.network.addresses[his.name] == address
    await asyncio.gather(*visits)
    assert before < REQUESTS / 2, "most were made while the address was his"
    assert {answer["user"] for answer in answers if answer} == {"alice"}
    assert None in answers
    assert (await starting).is_success
    assert (await bob.visit() or {})["user"] == "bob"
    await eventually(lambda: stack.lease("alice").state is LeaseState.CLOSED, "it is noticed")
    assert stack.lease("alice").cause is Cause.LOST
    assert await alice.server() is None


async def test_servers_restarted_by_hand_run_on_at_each_others_address(stack: ProcessStack) -> None:
    people = [await stack.running(name) for name in ("alice", "bob")]
    theirs = [stack.container(person.name) for person in people]
    addresses = [stack.network.addresses[container.name] for container in theirs]
    stack.engine.calls.clear()
    for container in theirs:
        stack.engine.end(container.name, 0)
    await asyncio.sleep(0.1)  # long enough for the hub to have heard
    for container in reversed(theirs):
        stack.engine.run(container.name)
    assert [stack.network.addresses[c.name] for c in reversed(theirs)] == addresses
    for person, container in zip(people, theirs, strict=True):
        assert (await person.visit() or {})["container"] == container.name
        inspected = partial(stack.engine.calls.__contains__, ("inspect", container.name))
        await eventually(inspected, "the hub inspects the container")
        assert await person.is_ready()
        assert (await person.visit() or {})["container"] == container.name
        assert stack.lease(person.name).state is LeaseState.RUNNING
        assert stack.done_to(container) == []


async def test_a_server_killed_for_memory_is_given_back_with_its_cause(
    one_gpu: ProcessStack,
) -> None:
    stack = one_gpu
    alice, bob = await stack.running("alice"), await stack.person("bob")
    await bob.wait_in_line()
    stack.engine.end(stack.container("alice").name, 137, oom=True)
    await eventually(bob.is_ready, "the next in line has the GPU")
    assert stack.lease("alice").cause is Cause.OUT_OF_MEMORY
    assert await alice.server() is None
    assert await alice.visit() is None
