"""What a hub does before it admits anybody: labelled containers are the truth, whatever the ledger says."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spawner.ledger import Ledger
from spawner.model import Cause, Granted, LeaseState, Reason, Refused, Unknown
from tests.fakes.docker_engine import Fault
from tests.unit.made import GPU_0, GPU_1, make_lease, make_request
from tests.unit.workshop import SETTINGS, Workshop, run_until


def age(shop: Workshop, name: str, seconds: float) -> None:
    """Let a container have started so long ago."""
    started = datetime.fromtimestamp(shop.uptime - seconds, UTC)
    shop.engine.containers[name].started_at = started.isoformat().replace("+00:00", "Z")


async def test_nothing_is_acquired_before_reconcile(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.controller.READY_TIMEOUT_SECONDS", 0.05)
    controller = shop.restart_hub()
    shop.engine.plan("list", *[Fault.ERROR] * 3)
    for _ in range(3):
        with pytest.raises(Unknown):
            await controller.reconcile()
        answer = await controller.acquire(make_request())
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.NOT_READY
    await controller.reconcile()
    assert isinstance(await controller.acquire(make_request()), Granted)


async def test_what_runs_is_kept_and_a_start_that_died_is_cleared_away(shop: Workshop) -> None:
    kept = await shop.running("alice")
    died = await shop.granted("bob")
    await shop.controller.launch(died, {}, lambda _percent, _step: None)
    age(shop, shop.container(died), 1)
    await shop.restart_hub().reconcile()
    assert shop.state(kept) is LeaseState.RUNNING
    assert shop.state(died) is LeaseState.CLOSED
    assert list(shop.engine.containers) == [shop.container(kept)]


async def test_a_start_without_gpus_that_died_has_no_place_to_keep(shop: Workshop) -> None:
    died = await shop.granted("bob", 0)
    await shop.restart_hub().reconcile()
    assert shop.state(died) is LeaseState.CLOSED
    assert await shop.controller.unattended() == ()


async def test_a_lease_whose_container_is_gone_is_closed_as_lost(shop: Workshop) -> None:
    lease = await shop.running()
    shop.engine.containers.clear()
    await shop.restart_hub().reconcile()
    closed = shop.read(lease)
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, Cause.LOST)


async def test_a_container_that_ended_while_no_hub_ran_has_its_cause(shop: Workshop) -> None:
    lease = await shop.running()
    shop.engine.containers[shop.container(lease)].is_running = False
    await shop.restart_hub().reconcile()
    closed = shop.read(lease)
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, Cause.EXITED)
    assert shop.engine.containers == {}


async def test_an_unknown_container_keeps_its_lease_and_admits_nobody(shop: Workshop) -> None:
    lease = await shop.running()
    shop.engine.containers[shop.container(lease)].is_running = False
    shop.engine.plan("inspect", Fault.ERROR)
    with pytest.raises(Unknown):
        await shop.restart_hub().reconcile()
    assert shop.state(lease) is LeaseState.RUNNING
    assert shop.controller.is_ready is False


async def test_any_number_of_servers_that_run_are_one_question(shop: Workshop) -> None:
    leases = [await shop.running(), await shop.running("bob")]
    shop.engine.calls.clear()
    await shop.restart_hub().reconcile()
    assert shop.engine.calls == [("list", "")]
    assert [shop.state(lease) for lease in leases] == [LeaseState.RUNNING] * 2


# --- containers that the ledger does not know


async def test_a_running_container_that_the_ledger_forgot_is_adopted(shop: Workshop) -> None:
    lease = make_lease(user="zoë", server="two", gpu_uuids=(GPU_0,))
    name = shop.put(lease, is_running=True)
    await shop.restart_hub().reconcile()
    assert name in shop.engine.containers
    adopted = shop.read(lease)
    assert (adopted.state, adopted.user, adopted.gpu_uuids) == (
        LeaseState.RUNNING,
        "zoë",
        (GPU_0,),
    )
    assert adopted.ends_at == shop.uptime + SETTINGS.max_lease_hours * 3600
    assert (await shop.granted("bob")).gpu_uuids == (GPU_1,)


async def test_a_forgotten_container_whose_gpu_is_held_is_left_for_the_admin(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    holder = await shop.running("bob")
    name = shop.put(make_lease(gpu_uuids=(GPU_0,)), is_running=True)
    await shop.restart_hub().reconcile()
    assert name in shop.engine.containers
    assert name in caplog.text

    # its GPU is in use, whatever the ledger says
    await shop.controller.release(holder.id, Cause.USER)
    assert (await shop.granted("carol")).gpu_uuids == (GPU_1,)
    await shop.controller.tick()
    assert shop.read(make_lease()).gpu_uuids == (GPU_0,), "and it is adopted as soon as it can be"
    caplog.clear()
    await shop.controller.tick()
    assert caplog.text == ""


async def test_a_forgotten_container_that_goes_gives_its_gpu_back(shop: Workshop) -> None:
    holder = await shop.running("bob")
    shop.put(make_lease(gpu_uuids=(GPU_0,)), is_running=True)
    await shop.restart_hub().reconcile()
    await shop.controller.release(holder.id, Cause.USER)
    shop.engine.containers.clear()
    await shop.controller.tick()
    assert (await shop.granted("carol", 2)).gpu_uuids == (GPU_0, GPU_1)


async def test_a_forgotten_container_that_does_not_run_goes(shop: Workshop) -> None:
    shop.put(make_lease(gpu_uuids=(GPU_0,)), is_running=False)
    await shop.restart_hub().reconcile()
    assert shop.engine.containers == {}
    assert (await shop.granted("bob", 2)).gpu_uuids == (GPU_0, GPU_1)


async def test_a_create_that_landed_after_its_lease_closed_is_removed(shop: Workshop) -> None:
    lease = await shop.running()
    await shop.controller.release(lease.id, Cause.FAILED)
    shop.put(lease, is_running=False)
    await shop.restart_hub().reconcile()
    assert shop.engine.containers == {}


# --- an old backup


class Backup:
    """A copy of the ledger as it is now."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.path = Path(shop.url.removeprefix("sqlite:///"))
        self.copy = self.path.with_suffix(".backup")
        shop.ledger.close()
        shutil.copy(self.path, self.copy)

    def restore(self) -> None:
        self.shop.ledger.close()
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        shutil.copy(self.copy, self.path)
        self.shop.ledger = Ledger.open(self.shop.url, first_uid=SETTINGS.first_uid)


async def test_an_old_backup_removes_no_running_container(shop: Workshop) -> None:
    await shop.granted("alice")
    backup = Backup(shop)
    lease = await shop.running("alice")
    other = await shop.running("bob")
    for name in shop.engine.containers:
        age(shop, name, 3600)
    backup.restore()
    await shop.restart_hub().reconcile()
    assert set(shop.engine.containers) == {shop.container(lease), shop.container(other)}
    for running in (lease, other):
        assert shop.state(running) is LeaseState.RUNNING
        assert shop.read(running).gpu_uuids == running.gpu_uuids


async def test_an_old_backup_in_which_others_held_the_gpus(shop: Workshop) -> None:
    old = await shop.running("alice", 2)
    backup = Backup(shop)
    await shop.controller.release(old.id, Cause.USER)
    new = await shop.running("bob", 2)
    backup.restore()
    await shop.restart_hub().reconcile()
    assert shop.state(old) is LeaseState.CLOSED
    assert (shop.state(new), shop.read(new).gpu_uuids) == (LeaseState.RUNNING, (GPU_0, GPU_1))


async def test_an_old_backup_in_which_they_still_waited(shop: Workshop) -> None:
    holder = await shop.running("alice", 2)
    waited = await shop.waiting("bob", 2)
    backup = Backup(shop)
    await shop.controller.release(holder.id, Cause.USER)
    running = await shop.running("bob", 2)
    assert running.id == waited.id
    backup.restore()
    await shop.restart_hub().reconcile()
    assert (shop.state(holder), shop.state(running)) == (LeaseState.CLOSED, LeaseState.RUNNING)
    assert shop.read(running).gpu_uuids == (GPU_0, GPU_1)


async def test_a_granted_lease_whose_container_has_run_for_long_is_running(
    shop: Workshop,
) -> None:
    lease = await shop.granted("alice")
    await shop.controller.launch(lease, {}, lambda _percent, _step: None)
    age(shop, shop.container(lease), SETTINGS.start_timeout_seconds + 60)
    await shop.restart_hub().reconcile()
    assert shop.state(lease) is LeaseState.RUNNING


async def test_the_hub_begins_by_itself(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spawner.controller.controller.RECONCILE_RETRY_SECONDS", 0.01)
    lease = replace(await shop.running(), id="f" * 16)
    shop.put(lease, is_running=False)
    controller = shop.restart_hub()
    shop.engine.plan("list", Fault.ERROR)
    await run_until(controller.run(), lambda: controller.is_ready)
