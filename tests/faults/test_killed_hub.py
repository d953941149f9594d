"""The hub ends with SIGKILL, comes back with old data, or twice: what runs goes on, and nothing starts too late."""

import asyncio
import shutil

import pytest

from spawner.model import Cause, LeaseState
from tests.fakes.docker_container import NEVER
from tests.fakes.docker_engine import Fault
from tests.faults.people import Person, eventually
from tests.faults.town import Town

UNTOUCHED = ["create", "start"]


@pytest.fixture
async def alice(town: Town) -> Person:
    """Somebody whose home is prepared, so that her next container is a server."""
    alice = await town.running("alice")
    await alice.stop()
    return alice


async def held_at_create(town: Town, person: Person) -> str:
    """Let a spawn come as far as Docker's creation of its container; return that one's name."""
    town.engine.plan("create", Fault.LATE)
    asking = asyncio.create_task(person.ask(gpus=1))
    asking.add_done_callback(lambda task: task.exception())  # its hub dies
    await eventually(lambda: town.engine.faults.held, "Docker creates the container")
    ((_, name),) = town.engine.faults.held
    return name


async def test_a_create_in_flight_lands_after_its_hub_was_killed(town: Town, alice: Person) -> None:
    name = await held_at_create(town, alice)
    await town.restart_hub()
    await eventually(alice.is_ready, "the next hub starts the server that was asked for")
    town.engine.release()
    await eventually(lambda: name in town.engine.containers, "the create lands")
    assert not town.engine.containers[name].is_running
    assert (await alice.visit() or {})["container"] != name
    assert await town.audit() == ()
    await town.restart_hub()
    await eventually(lambda: name not in town.engine.containers, "reconcile removes what it left")
    await eventually(alice.is_ready, "the next hub knows the server")
    assert town.done_to(town.container("alice")) == UNTOUCHED


async def test_a_start_that_lands_after_its_lease_ended_starts_nothing(
    town: Town, alice: Person
) -> None:
    name = await held_at_create(town, alice)
    first = town.lease("alice")
    town.engine.release()
    # what the broker asks before it looks at the fence
    town.engine.plan("inspect", Fault.LATE, subject=name)
    await eventually(lambda: ("inspect", name) in town.engine.faults.held, "the start is under way")
    town.engine.plan("delete", *[Fault.ERROR] * 1000, subject=name)
    town.kill("hub")
    town.start_hub()
    with town.ledger() as ledger:

        def is_closing() -> bool:
            lease = ledger.lease(first.id)
            return lease is not None and lease.state is LeaseState.CLOSING

        await eventually(is_closing, "the next hub gives the lease back")
    late = town.engine.containers[name]
    town.engine.release()
    await eventually(lambda: "may start" in town.log("broker"), "the broker refuses the late start")
    assert (late.is_running, late.started_at) == (False, NEVER)
    town.engine.forget()
    await eventually(alice.is_ready, "she has her server in the end")
    assert town.done_to(late)[0] == "create"
    assert "start" not in town.done_to(late)
    assert town.container("alice").name != name


async def test_an_old_backup_removes_no_running_container(town: Town) -> None:
    alice = await town.running("alice")
    bob, cyd = await town.person("bob"), await town.person("cyd")
    data, backup = town.folder / "data", town.folder / "backup"
    town.kill("hub", "broker")
    shutil.copytree(data, backup)
    town.start_broker()
    town.start_hub()
    await town.until_hub_answers()
    await alice.stop()
    await bob.start(gpus=1)
    await cyd.start(gpus=1)
    running = {name: c.id for name, c in town.engine.containers.items()}
    town.kill("hub", "broker")
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    town.start_broker()
    town.start_hub()
    await town.until_hub_answers()
    dan = await town.person("dan")
    with town.ledger() as ledger:
        await eventually(
            lambda: {lease.user for lease in ledger.live_leases()} == {"bob", "cyd"},
            "both are adopted",
        )
    await dan.wait_in_line()
    assert (town.lease("alice").state, town.lease("alice").cause) == (LeaseState.CLOSED, Cause.LOST)
    assert {name: c.id for name, c in town.engine.containers.items()} == running
    assert all(c.is_running for c in town.engine.containers.values())
    assert await town.audit() == ()
    await dan.stop()


async def test_a_second_hub_leaves_at_once_and_changes_nothing(town: Town) -> None:
    alice = await town.running("alice")
    hers = town.container("alice")
    second = town.start_hub("second")
    code = await asyncio.to_thread(second.wait, 60)
    assert code not in (0, None)
    assert "Another hub already works on" in town.log("second")
    assert "Traceback" not in town.log("second")
    assert town.processes["hub"].poll() is None
    assert (await alice.visit() or {})["container"] == hers.name
    assert town.done_to(hers) == UNTOUCHED


async def test_a_server_that_does_not_answer_when_the_hub_starts_is_left_alone(town: Town) -> None:
    alice = await town.running("alice")
    hers = town.container("alice")
    town.network.mute.add(hers.name)
    await town.restart_hub()
    await eventually(alice.is_ready, "the next hub knows the server")
    town.network.mute.clear()
    assert (await alice.visit() or {})["container"] == hers.name
    assert town.done_to(hers) == UNTOUCHED
    await alice.stop()
