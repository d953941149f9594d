"""The hub's conclusions from Docker's answers, and from missing answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from spawner.containers import Containers, Timeouts
from spawner.model import LaunchError, Unknown
from spawner.policy.container import LABEL_INSTANCE, LABEL_ROLE, ROLE_PREPARE_HOME, ROLE_SERVER
from testing.eventually import eventually
from testing.fakes.docker_container import FakeContainer
from testing.fakes.docker_engine import FakeEngine
from testing.fakes.docker_faults import Fault

INSTANCE = "wb"
BODY = {"Image": "sha256:1", "Labels": {LABEL_INSTANCE: INSTANCE, LABEL_ROLE: ROLE_SERVER}}
PREPARE = {"Image": "sha256:1", "Labels": {LABEL_INSTANCE: INSTANCE, LABEL_ROLE: ROLE_PREPARE_HOME}}
SHORT = Timeouts(request_seconds=0.3, launch_seconds=0.3, prepare_seconds=0.3, remove_seconds=1.0)
NO_ANSWER = (Fault.ERROR, Fault.HANG, Fault.GARBAGE, Fault.WRONG_SHAPE, Fault.DROP)

Call = Callable[[Containers], Awaitable[Any]]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    async with FakeEngine(tmp_path / "docker.sock") as engine:
        engine.images["image:1"] = "sha256:1"
        yield engine


@pytest.fixture
async def containers(engine: FakeEngine) -> AsyncIterator[Containers]:
    containers = Containers(str(engine.socket_path), INSTANCE, SHORT)
    yield containers
    await containers.close()


async def test_a_life(containers: Containers, engine: FakeEngine) -> None:
    assert await containers.inspect("a") is None
    container_id = await containers.create("a", BODY)
    created = await containers.inspect("a")
    assert created is not None
    assert (created.id, created.name, created.labels) == (container_id, "a", BODY["Labels"])
    assert (created.is_running, created.exit_code, created.started_at) == (False, None, None)
    await containers.start("a")
    running = await containers.inspect("a")
    assert running is not None
    assert (running.is_running, running.exit_code) == (True, None)
    assert running.started_at == pytest.approx(1795435200.123456)
    engine.containers["a"].is_running = False
    engine.containers["a"].exit_code = 137
    exited = await containers.inspect("a")
    assert exited is not None
    assert (exited.is_running, exited.exit_code, exited.error) == (False, 137, None)
    await containers.remove("a", grace_seconds=0)
    assert await containers.inspect("a") is None


async def test_the_body_is_posted_unchanged(containers: Containers, engine: FakeEngine) -> None:
    await containers.create("a", BODY)
    assert engine.containers["a"].body == BODY


async def test_an_image_is_its_id(containers: Containers) -> None:
    assert await containers.image_id("image:1") == "sha256:1"


async def test_a_missing_image_names_the_remedy(containers: Containers) -> None:
    with pytest.raises(LaunchError, match="image:2 is not on this host: run scripts/up"):
        await containers.image_id("image:2")


async def test_a_refusal_is_a_launch_error_with_dockers_sentence(containers: Containers) -> None:
    await containers.create("a", BODY)
    with pytest.raises(LaunchError, match=r"refused to create a: Conflict\. The container name"):
        await containers.create("a", BODY)
    with pytest.raises(LaunchError, match="No such container: b"):
        await containers.start("b")


CALLS: dict[str, tuple[str, Call]] = {
    "image_id": ("image", lambda c: c.image_id("image:1")),
    "create": ("create", lambda c: c.create("b", BODY)),
    "look": ("inspect", lambda c: c.inspect("a")),
    "list_servers": ("list", lambda c: c.list_servers()),
}


@pytest.mark.parametrize("fault", NO_ANSWER)
@pytest.mark.parametrize("call", CALLS)
async def test_no_answer_is_unknown_and_the_next_one_counts(
    containers: Containers, engine: FakeEngine, call: str, fault: Fault
) -> None:
    await containers.create("a", BODY)
    operation, effect = CALLS[call]
    # aiohttp itself repeats a dropped GET
    engine.plan(operation, *([fault] * (2 if fault is Fault.DROP else 1)))
    with pytest.raises(Unknown):
        await effect(containers)
    engine.forget()
    assert await effect(containers) is not None


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.HANG, Fault.DROP])
async def test_a_start_without_an_answer_is_unknown(
    containers: Containers, engine: FakeEngine, fault: Fault
) -> None:
    await containers.create("a", BODY)
    engine.plan("start", fault)
    with pytest.raises(Unknown):
        await containers.start("a")


async def test_three_errors_are_never_absence(containers: Containers, engine: FakeEngine) -> None:
    await containers.create("a", BODY)
    engine.plan("inspect", *[Fault.ERROR] * 3)
    for _ in range(3):
        with pytest.raises(Unknown, match="something went wrong inside"):
            await containers.inspect("a")
    assert await containers.inspect("a") is not None


async def test_only_dockers_own_404_is_absence(containers: Containers, engine: FakeEngine) -> None:
    engine.plan("inspect", Fault.PAGE_NOT_FOUND)
    with pytest.raises(Unknown, match="page not found"):
        await containers.inspect("a")
    assert await containers.inspect("a") is None


async def test_a_missing_socket_is_unknown(tmp_path: Path) -> None:
    containers = Containers(str(tmp_path / "none.sock"), INSTANCE, SHORT)
    for call in (containers.inspect("a"), containers.remove("a", 0), containers.list_servers()):
        with pytest.raises(Unknown):
            await call
    await containers.close()


async def test_after_close_the_next_call_connects_anew(containers: Containers) -> None:
    assert await containers.inspect("a") is None
    await containers.close()
    assert await containers.inspect("a") is None


@pytest.mark.parametrize("operation", ["stop", "delete", "inspect"])
@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.GARBAGE, Fault.DROP, Fault.HANG])
async def test_remove_outlives_one_fault(
    containers: Containers, engine: FakeEngine, operation: str, fault: Fault
) -> None:
    await containers.create("a", BODY)
    await containers.start("a")
    engine.plan(operation, fault)
    await containers.remove("a", grace_seconds=0)
    assert "a" not in engine.containers


@pytest.mark.parametrize("operation", ["stop", "delete", "inspect"])
async def test_remove_without_proof_is_unknown(
    containers: Containers, engine: FakeEngine, operation: str
) -> None:
    await containers.create("a", BODY)
    await containers.start("a")
    engine.plan(operation, *[Fault.ERROR] * 1000)
    with pytest.raises(Unknown, match=r"a was not seen gone: .*something went wrong inside"):
        await containers.remove("a", grace_seconds=0)


async def test_removing_what_is_gone_is_done(containers: Containers) -> None:
    await containers.remove("a", grace_seconds=0)


async def test_a_start_that_lands_late_is_removed_all_the_same(
    containers: Containers, engine: FakeEngine
) -> None:
    await containers.create("a", BODY)
    engine.plan("start", Fault.LATE)
    with pytest.raises(Unknown):
        await containers.start("a")
    engine.plan("delete", Fault.LATE)  # in which moment the start lands
    removal = asyncio.create_task(containers.remove("a", grace_seconds=0))
    await eventually(lambda: ("delete", "a") in engine.calls)
    engine.release()
    await removal
    assert "a" not in engine.containers


async def test_a_slow_call_delays_no_other_container(
    engine: FakeEngine, containers: Containers
) -> None:
    many = [f"slow-{number}" for number in range(150)]  # more than aiohttp's usual connections
    for name in [*many, "fast"]:
        engine.containers[name] = FakeContainer(name, name, BODY, is_running=True)
    patient = Containers(str(engine.socket_path), INSTANCE)
    engine.plan("stop", *[Fault.LATE] * len(many))
    removals = [asyncio.create_task(patient.remove(name, 0)) for name in many]
    await eventually(lambda: sum(call == "stop" for call, _ in engine.calls) == len(many))
    await asyncio.wait_for(patient.remove("fast", 0), 5)
    assert not any(removal.done() for removal in removals)
    engine.release()
    await asyncio.gather(*removals)
    await patient.close()


async def test_effects_on_one_container_keep_their_order(
    engine: FakeEngine, containers: Containers
) -> None:
    patient = Containers(str(engine.socket_path), INSTANCE)
    engine.plan("create", Fault.LATE)
    create = asyncio.create_task(patient.create("a", BODY))
    await eventually(lambda: ("create", "a") in engine.calls)
    removal = asyncio.create_task(patient.remove("a", grace_seconds=0))
    assert await containers.inspect("a") is None  # an inspection waits for no other call
    engine.release()
    await asyncio.gather(create, removal)
    assert [call for call, _ in engine.calls if call != "inspect"] == ["create", "stop", "delete"]


async def test_only_this_instances_servers_are_listed(
    containers: Containers, engine: FakeEngine
) -> None:
    await containers.create("a", BODY)
    await containers.create("b", BODY)
    await containers.start("b")
    await containers.create("c", PREPARE)
    other = {"Image": "sha256:1", "Labels": {LABEL_INSTANCE: "other", LABEL_ROLE: ROLE_SERVER}}
    await containers.create("d", other)
    engine.containers["e"] = FakeContainer("e", "e", {"Labels": None})
    servers = await containers.list_servers()
    assert [(server.name, server.is_running) for server in servers] == [("a", False), ("b", True)]


async def test_a_home_is_prepared_and_nothing_stays(
    containers: Containers, engine: FakeEngine
) -> None:
    engine.containers["p"] = FakeContainer("0ld", "p", PREPARE)  # left by a crash
    await containers.prepare_home("p", PREPARE)
    assert engine.containers == {}
    assert [call for call, _ in engine.calls if call not in ("inspect", "stop")] == [
        "delete",
        "create",
        "start",
        "wait",
        "delete",
    ]


async def test_a_failed_preparation_gives_the_reason_and_nothing_stays(
    containers: Containers, engine: FakeEngine
) -> None:
    engine.exit_code, engine.log = 3, ["chown: no space left"]
    with pytest.raises(LaunchError, match=r"exit code 3\): chown: no space left"):
        await containers.prepare_home("p", PREPARE)
    assert engine.containers == {}


async def test_a_preparation_that_does_not_end_is_unknown_and_removed(
    containers: Containers, engine: FakeEngine
) -> None:
    engine.plan("wait", Fault.HANG)
    with pytest.raises(Unknown):
        await containers.prepare_home("p", PREPARE)
    assert engine.containers == {}


async def test_a_log_tail_has_the_last_lines_and_no_control_characters(
    containers: Containers, engine: FakeEngine
) -> None:
    await containers.create("a", BODY)
    engine.containers["a"].log = ["one", "two", "\x1b[31mthree\x00 é"]
    assert await containers.log_tail("a", lines=2) == "two\n[31mthree é"
    assert await containers.log_tail("none") == ""
