"""The hub ends with SIGKILL, comes back with old data, or twice: what runs goes on, and nothing starts too late."""

import asyncio
import shutil

import pytest

from spawner.model import Cause, LeaseState
from testing.eventually import eventually
from testing.fakes.docker_container import NEVER
from testing.fakes.docker_faults import Fault
from testing.people import Person
from testing.process_stack import ProcessStack

UNTOUCHED = ["create", "start"]


@pytest.fixture
async def alice(stack: ProcessStack) -> Person:
    """A user whose home is prepared, so that her next container is a server."""
    alice = await stack.running("alice")
    await alice.stop()
    return alice


async def held_at_create(stack: ProcessStack, person: Person) -> str:
    """Let a spawn come as far as Docker's creation of its container; return that one's name."""
    stack.engine.plan("create", Fault.LATE)
    asking = asyncio.create_task(person.request_server(gpus=1))
    asking.add_done_callback(lambda task: task.exception())  # its hub dies
    await eventually(lambda: stack.engine.faults.held, "Docker creates the container")
    ((_, name),) = stack.engine.faults.held
    return name


async def test_a_create_in_flight_lands_after_its_hub_was_killed(
    stack: ProcessStack, alice: Person
) -> None:
    name = await held_at_create(stack, alice)
    await stack.restart_hub()
    await eventually(alice.is_ready, "the next hub starts the server that was asked for")
    stack.engine.release()
    await eventually(lambda: name in stack.engine.containers, "the create lands")
    assert not stack.engine.containers[name].is_running
    assert (await alice.visit() or {})["container"] != name
    assert await stack.audit() == ()
    await stack.restart_hub()
    await eventually(lambda: name not in stack.engine.containers, "reconcile removes what it left")
    await eventually(alice.is_ready, "the next hub knows the server")
    assert stack.done_to(stack.container("alice")) == UNTOUCHED


async def test_a_start_that_lands_after_its_lease_ended_starts_nothing(
    stack: ProcessStack, alice: Person
) -> None:
    name = await held_at_create(stack, alice)
    first = stack.lease("alice")
    stack.engine.release()
    # the broker inspects before it checks the fence
    stack.engine.plan("inspect", Fault.LATE, subject=name)
    await eventually(
        lambda: ("inspect", name) in stack.engine.faults.held, "the start is under way"
    )
    stack.engine.plan("delete", *[Fault.ERROR] * 1000, subject=name)
    stack.kill("hub")
    stack.start_hub()
    with stack.ledger() as ledger:

        def is_closing() -> bool:
            lease = ledger.lease(first.id)
            return lease is not None and lease.state is LeaseState.CLOSING

        await eventually(is_closing, "the next hub gives the lease back")
    late = stack.engine.containers[name]
    stack.engine.release()
    await eventually(
        lambda: "may start" in stack.log("broker"), "the broker refuses the late start"
    )
    assert (late.is_running, late.started_at) == (False, NEVER)
    stack.engine.forget()
    await eventually(alice.is_ready, "she has her server in the end")
    assert stack.done_to(late)[0] == "create"
    assert "start" not in stack.done_to(late)
    assert stack.container("alice").name != name


async def test_an_old_backup_removes_no_running_container(stack: ProcessStack) -> None:
    alice = await stack.running("alice")
    bob, cyd = await stack.person("bob"), await stack.person("cyd")
    data, backup = stack.folder / "data", stack.folder / "backup"
    stack.kill("hub", "broker")
    shutil.copytree(data, backup)
    stack.start_broker()
    stack.start_hub()
    await stack.until_hub_answers()
    await alice.stop()
    await bob.start(gpus=1)
    await cyd.start(gpus=1)
    running = {name: c.id for name, c in stack.engine.containers.items()}
    stack.kill("hub", "broker")
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    stack.start_broker()
    stack.start_hub()
    await stack.until_hub_answers()
    dan = await stack.person("dan")
    with stack.ledger() as ledger:
        await eventually(
            lambda: {lease.user for lease in ledger.live_leases()} == {"bob", "cyd"},
            "both are adopted",
        )
    await dan.wait_in_line()
    assert (stack.lease("alice").state, stack.lease("alice").cause) == (
        LeaseState.CLOSED,
        Cause.LOST,
    )
    assert {name: c.id for name, c in stack.engine.containers.items()} == running
    assert all(c.is_running for c in stack.engine.containers.values())
    assert await stack.audit() == ()
    await dan.stop()


async def test_a_second_hub_leaves_at_once_and_changes_nothing(stack: ProcessStack) -> None:
    alice = await stack.running("alice")
    hers = stack.container("alice")
    second = stack.start_hub("second")
    code = await asyncio.to_thread(second.wait, 60)
    assert code not in (0, None)
    assert "Another hub already uses" in stack.log("second")
    assert "Traceback" not in stack.log("second")
    assert stack.processes["hub"].poll() is None
    assert (await alice.visit() or {})["container"] == hers.name
    assert stack.done_to(hers) == UNTOUCHED


async def test_a_server_that_does_not_answer_when_the_hub_starts_is_left_alone(
    stack: ProcessStack,
) -> None:
    alice = await stack.running("alice")
    hers = stack.container("alice")
    stack.network.mute.add(hers.name)
    await stack.restart_hub()
    await eventually(alice.is_ready, "the next hub knows the server")
    stack.network.mute.clear()
    assert (await alice.visit() or {})["container"] == hers.name
    assert stack.done_to(hers) == UNTOUCHED
    await alice.stop()
