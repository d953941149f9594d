"""A server that ends by itself is noticed at once, for what ended it, and never on an event's word alone."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from spawner.containers import ContainerStatus
from spawner.controller.ends import Ends, cause_of_end
from spawner.ledger import Ledger
from spawner.model import Cause, Lease, LeaseState, Unknown
from tests.fakes.docker_engine import Fault
from tests.unit.workshop import Workshop, eventually

RUNNING, CLOSED = LeaseState.RUNNING, LeaseState.CLOSED


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spawner.controller.ends.SETTLE_SECONDS", 0.05)
    monkeypatch.setattr("spawner.controller.ends.RETRY_SECONDS", 0.05)


@pytest.fixture
async def listening(shop: Workshop) -> AsyncIterator[None]:
    following = asyncio.create_task(Ends(shop.containers, shop.ledger, shop.controller).follow())
    await eventually(lambda: shop.engine.events.listeners == 1)
    yield
    assert not following.done()
    following.cancel()


async def closed_for(shop: Workshop, lease: Lease) -> Cause | None:
    await eventually(lambda: shop.state(lease) is CLOSED)
    return shop.read(lease).cause


@pytest.mark.usefixtures("listening")
async def test_a_server_that_ends_frees_its_gpu_and_the_hub_is_told(shop: Workshop) -> None:
    told: list[Lease] = []
    shop.controller.on_closed = told.append
    lease = await shop.running()
    other = await shop.running("bob")
    shop.engine.end(shop.container(lease), 1)
    assert await closed_for(shop, lease) is Cause.EXITED
    await eventually(lambda: [closed.id for closed in told] == [lease.id])
    assert list(shop.engine.containers) == [shop.container(other)]
    assert shop.state(other) is RUNNING


@pytest.mark.usefixtures("listening")
async def test_the_kernels_kill_is_its_own_cause(shop: Workshop) -> None:
    lease = await shop.running()
    shop.engine.end(shop.container(lease), 137, oom=True)
    assert await closed_for(shop, lease) is Cause.OUT_OF_MEMORY


@pytest.mark.usefixtures("listening")
async def test_the_kernels_word_may_come_after_the_end(shop: Workshop) -> None:
    lease = await shop.running()
    shop.engine.end(shop.container(lease), 137)
    shop.engine.containers[shop.container(lease)].oom_killed = True
    assert await closed_for(shop, lease) is Cause.OUT_OF_MEMORY


@pytest.mark.usefixtures("listening")
async def test_a_server_removed_by_hand_is_lost(shop: Workshop) -> None:
    lease = await shop.running()
    shop.engine.vanish(shop.container(lease))
    assert await closed_for(shop, lease) is Cause.LOST


@pytest.mark.usefixtures("listening")
async def test_a_server_restarted_by_hand_runs_on(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.ends.SETTLE_SECONDS", 1.0)
    lease, other = await shop.running(), await shop.running("bob")
    shop.engine.end(shop.container(lease), 0)
    await asyncio.sleep(0.1)  # it takes Docker a moment to start it again
    shop.engine.containers[shop.container(lease)].is_running = True
    shop.engine.end(shop.container(other), 0)
    assert await closed_for(shop, other) is Cause.EXITED
    assert shop.state(lease) is RUNNING
    assert shop.container(lease) in shop.engine.containers


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(
    "fault", [Fault.ERROR, Fault.GARBAGE, Fault.PAGE_NOT_FOUND, Fault.WRONG_SHAPE]
)
async def test_an_event_alone_ends_nothing(shop: Workshop, fault: Fault) -> None:
    lease = await shop.running()
    name = shop.container(lease)
    asked = len(shop.engine.calls)
    shop.engine.plan("inspect", *[fault] * 10_000)
    shop.engine.vanish(name)
    await eventually(lambda: shop.engine.calls[asked:].count(("inspect", name)) >= 3)
    assert shop.state(lease) is RUNNING, "nobody knows yet"
    shop.engine.forget()
    assert await closed_for(shop, lease) is Cause.LOST


@pytest.mark.usefixtures("listening")
async def test_a_lie_ends_nothing(shop: Workshop) -> None:
    lease, other = await shop.running(), await shop.running("bob")
    for name, tell in ((shop.container(lease), "die"), (shop.container(lease), "destroy")):
        container = shop.engine.containers[name]
        attributes = {**container.body["Labels"], "name": name, "exitCode": "137"}
        shop.engine.events.tell(tell, container.id, attributes)
    shop.engine.end(shop.container(other), 0)
    await closed_for(shop, other)
    assert shop.state(lease) is RUNNING
    assert shop.engine.containers[shop.container(lease)].is_running


@pytest.mark.usefixtures("listening")
async def test_a_spawn_that_fails_is_not_taken_out_of_its_hands(shop: Workshop) -> None:
    starting, running = await shop.granted(), await shop.running("bob")
    await shop.controller.launch(starting, {}, lambda _percent, _step: None)
    shop.engine.end(shop.container(starting), 1)
    shop.engine.end(shop.container(running), 1)
    await closed_for(shop, running)
    assert shop.state(starting) is LeaseState.GRANTED


@pytest.mark.usefixtures("listening")
async def test_what_a_stop_brings_about_keeps_the_causes_of_the_stop(shop: Workshop) -> None:
    lease = await shop.running()
    assert await shop.controller.release(lease.id, Cause.USER)
    assert shop.read(lease).cause is Cause.USER


@pytest.mark.usefixtures("listening")
async def test_after_a_gap_every_server_is_looked_at(shop: Workshop) -> None:
    gone, exited, kept = (
        await shop.running("a"),
        await shop.running("b"),
        await shop.running("c", 0),
    )
    del shop.engine.containers[shop.container(gone)]
    shop.engine.containers[shop.container(exited)].is_running = False
    shop.engine.events.cut()
    assert await closed_for(shop, gone) is Cause.LOST
    assert await closed_for(shop, exited) is Cause.EXITED
    assert shop.state(kept) is RUNNING


@pytest.mark.usefixtures("listening")
async def test_a_locked_ledger_is_asked_again(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await shop.running()
    real, failures = Ledger.live_leases, iter(range(3))

    def locked(ledger: Ledger) -> tuple[Lease, ...]:
        if next(failures, None) is not None:
            raise Unknown("The ledger cannot be reached: database is locked.")
        return real(ledger)

    monkeypatch.setattr(Ledger, "live_leases", locked)
    del shop.engine.containers[shop.container(lease)]
    shop.engine.events.cut()
    assert await closed_for(shop, lease) is Cause.LOST


@pytest.mark.usefixtures("listening")
async def test_an_error_over_one_end_does_not_deafen(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, other = await shop.running(), await shop.running("bob")
    real = shop.controller.look

    async def look(lease_id: str) -> ContainerStatus | None:
        if lease_id == broken.id:
            raise RuntimeError("broken")
        return await real(lease_id)

    monkeypatch.setattr(shop.controller, "look", look)
    shop.engine.end(shop.container(broken), 0)
    shop.engine.end(shop.container(other), 0)
    assert await closed_for(shop, other) is Cause.EXITED
    assert shop.state(broken) is RUNNING


async def test_the_running_controller_listens(shop: Workshop) -> None:
    run = asyncio.create_task(shop.controller.run())
    lease = await shop.running()
    await eventually(lambda: shop.engine.events.listeners == 1)
    shop.engine.vanish(shop.container(lease))
    assert await closed_for(shop, lease) is Cause.LOST
    run.cancel()


def status(
    exit_code: int | None, *, oom_killed: bool = False, is_being_removed: bool = False
) -> ContainerStatus:
    return ContainerStatus(
        "id", "name", {}, exit_code is None, exit_code, oom_killed, None, None, is_being_removed
    )


@pytest.mark.parametrize(
    ("seen", "oom", "cause"),
    [
        (None, False, Cause.LOST),
        (None, True, Cause.LOST),
        (status(0), False, Cause.EXITED),
        (status(137), False, Cause.EXITED),  # killed by hand
        (status(137, is_being_removed=True), False, Cause.LOST),
        (status(137, oom_killed=True), False, Cause.OUT_OF_MEMORY),
        (status(137), True, Cause.OUT_OF_MEMORY),
        (status(0, oom_killed=True), True, Cause.EXITED),  # a notebook's kernel, hours ago
    ],
)
def test_the_cause_of_an_end(seen: ContainerStatus | None, oom: bool, cause: Cause) -> None:
    assert cause_of_end(seen, oom=oom) is cause
