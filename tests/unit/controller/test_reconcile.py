"""Reconcile, before any spawn is admitted: labelled containers are the truth, whatever the ledger says."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spawner.ledger import Ledger
from spawner.model import Cause, Granted, LeaseState, Reason, Refused, Unknown
from testing.factories import GPU_0, GPU_1, make_lease, make_request
from testing.fakes.docker_faults import Fault
from tests.unit.controller_env import SETTINGS, ControllerEnvironment, run_until


def age(controller_env: ControllerEnvironment, name: str, seconds: float) -> None:
    """Let a container have started so long ago."""
    started = datetime.fromtimestamp(controller_env.uptime - seconds, UTC)
    controller_env.engine.containers[name].started_at = started.isoformat().replace("+00:00", "Z")


async def test_nothing_is_acquired_before_reconcile(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.controller.READY_TIMEOUT_SECONDS", 0.05)
    controller = controller_env.restart_hub()
    controller_env.engine.plan("list", *[Fault.ERROR] * 3)
    for _ in range(3):
        with pytest.raises(Unknown):
            await controller.reconcile()
        answer = await controller.acquire(make_request())
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.NOT_READY
    await controller.reconcile()
    assert isinstance(await controller.acquire(make_request()), Granted)


async def test_what_runs_is_kept_and_a_start_that_died_is_cleared_away(
    controller_env: ControllerEnvironment,
) -> None:
    kept = await controller_env.running("alice")
    died = await controller_env.granted("bob")
    await controller_env.controller.launch(died, {}, lambda _percent, _step: None)
    age(controller_env, controller_env.container(died), 1)
    await controller_env.restart_hub().reconcile()
    assert controller_env.state(kept) is LeaseState.RUNNING
    assert controller_env.state(died) is LeaseState.CLOSED
    assert list(controller_env.engine.containers) == [controller_env.container(kept)]


async def test_a_start_without_gpus_that_died_has_no_place_to_keep(
    controller_env: ControllerEnvironment,
) -> None:
    died = await controller_env.granted("bob", 0)
    await controller_env.restart_hub().reconcile()
    assert controller_env.state(died) is LeaseState.CLOSED
    assert await controller_env.controller.leases_without_spawn() == ()


async def test_a_lease_whose_container_is_gone_is_closed_as_lost(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running()
    controller_env.engine.containers.clear()
    await controller_env.restart_hub().reconcile()
    closed = controller_env.read(lease)
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, Cause.LOST)


async def test_a_container_that_ended_while_no_hub_ran_has_its_cause(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running()
    controller_env.engine.containers[controller_env.container(lease)].is_running = False
    await controller_env.restart_hub().reconcile()
    closed = controller_env.read(lease)
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, Cause.EXITED)
    assert controller_env.engine.containers == {}


async def test_an_unknown_container_keeps_its_lease_and_admits_no_one(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running()
    controller_env.engine.containers[controller_env.container(lease)].is_running = False
    controller_env.engine.plan("inspect", Fault.ERROR)
    with pytest.raises(Unknown):
        await controller_env.restart_hub().reconcile()
    assert controller_env.state(lease) is LeaseState.RUNNING
    assert controller_env.controller.is_ready is False


async def test_any_number_of_servers_that_run_are_one_question(
    controller_env: ControllerEnvironment,
) -> None:
    leases = [await controller_env.running(), await controller_env.running("bob")]
    controller_env.engine.calls.clear()
    await controller_env.restart_hub().reconcile()
    assert controller_env.engine.calls == [("list", "")]
    assert [controller_env.state(lease) for lease in leases] == [LeaseState.RUNNING] * 2


# --- containers that the ledger does not know


async def test_a_running_container_that_the_ledger_forgot_is_adopted(
    controller_env: ControllerEnvironment,
) -> None:
    lease = make_lease(user="zoë", server="two", gpu_uuids=(GPU_0,))
    name = controller_env.put(lease, is_running=True)
    await controller_env.restart_hub().reconcile()
    assert name in controller_env.engine.containers
    adopted = controller_env.read(lease)
    assert (adopted.state, adopted.user, adopted.gpu_uuids) == (
        LeaseState.RUNNING,
        "zoë",
        (GPU_0,),
    )
    assert adopted.ends_at == controller_env.uptime + SETTINGS.max_lease_hours * 3600
    assert (await controller_env.granted("bob")).gpu_uuids == (GPU_1,)


@pytest.mark.parametrize(
    "changes",
    [{"uid": 0}, {"gpu_uuids": ("all",)}, {"id": "x"}, {"id": "f" * 16}],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_container_whose_labels_cannot_be_true_is_not_adopted(
    controller_env: ControllerEnvironment,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
) -> None:
    lease = make_lease(gpu_uuids=(GPU_0,))
    other = controller_env.put(replace(lease, **changes), is_running=False)
    forged = controller_env.engine.containers.pop(other).body["Labels"]
    name = controller_env.put(lease, is_running=True)
    controller_env.engine.containers[name].body["Labels"] = forged
    await controller_env.restart_hub().reconcile()
    assert controller_env.ledger.live_leases() == ()
    assert f"Not adopted: container={name}" in caplog.text
    assert controller_env.engine.containers[name].is_running


async def test_a_forgotten_container_whose_gpu_is_held_is_left_for_the_admin(
    controller_env: ControllerEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    holder = await controller_env.running("bob")
    name = controller_env.put(make_lease(gpu_uuids=(GPU_0,)), is_running=True)
    await controller_env.restart_hub().reconcile()
    assert name in controller_env.engine.containers
    assert name in caplog.text

    # its GPU is in use, whatever the ledger says
    await controller_env.controller.release(holder.id, Cause.USER)
    assert (await controller_env.granted("carol")).gpu_uuids == (GPU_1,)
    await controller_env.controller.tick()
    assert controller_env.read(make_lease()).gpu_uuids == (GPU_0,), (
        "and it is adopted as soon as it can be"
    )
    caplog.clear()
    await controller_env.controller.tick()
    assert caplog.text == ""


async def test_a_forgotten_container_that_goes_gives_its_gpu_back(
    controller_env: ControllerEnvironment,
) -> None:
    holder = await controller_env.running("bob")
    controller_env.put(make_lease(gpu_uuids=(GPU_0,)), is_running=True)
    await controller_env.restart_hub().reconcile()
    await controller_env.controller.release(holder.id, Cause.USER)
    controller_env.engine.containers.clear()
    await controller_env.controller.tick()
    assert (await controller_env.granted("carol", 2)).gpu_uuids == (GPU_0, GPU_1)


async def test_a_forgotten_container_that_does_not_run_goes(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.put(make_lease(gpu_uuids=(GPU_0,)), is_running=False)
    await controller_env.restart_hub().reconcile()
    assert controller_env.engine.containers == {}
    assert (await controller_env.granted("bob", 2)).gpu_uuids == (GPU_0, GPU_1)


async def test_a_create_that_landed_after_its_lease_closed_is_removed(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running()
    await controller_env.controller.release(lease.id, Cause.FAILED)
    controller_env.put(lease, is_running=False)
    await controller_env.restart_hub().reconcile()
    assert controller_env.engine.containers == {}


# --- an old backup


class Backup:
    """A copy of the ledger as it is now."""

    def __init__(self, controller_env: ControllerEnvironment) -> None:
        self.controller_env = controller_env
        self.path = Path(controller_env.url.removeprefix("sqlite:///"))
        self.copy = self.path.with_suffix(".backup")
        controller_env.ledger.close()
        shutil.copy(self.path, self.copy)

    def restore(self) -> None:
        self.controller_env.ledger.close()
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        shutil.copy(self.copy, self.path)
        self.controller_env.ledger = Ledger.open(
            self.controller_env.url, first_uid=SETTINGS.first_uid
        )


async def test_an_old_backup_removes_no_running_container(
    controller_env: ControllerEnvironment,
) -> None:
    await controller_env.granted("alice")
    backup = Backup(controller_env)
    lease = await controller_env.running("alice")
    other = await controller_env.running("bob")
    for name in controller_env.engine.containers:
        age(controller_env, name, 3600)
    backup.restore()
    await controller_env.restart_hub().reconcile()
    assert set(controller_env.engine.containers) == {
        controller_env.container(lease),
        controller_env.container(other),
    }
    for running in (lease, other):
        assert controller_env.state(running) is LeaseState.RUNNING
        assert controller_env.read(running).gpu_uuids == running.gpu_uuids


async def test_an_old_backup_in_which_others_held_the_gpus(
    controller_env: ControllerEnvironment,
) -> None:
    old = await controller_env.running("alice", 2)
    backup = Backup(controller_env)
    await controller_env.controller.release(old.id, Cause.USER)
    new = await controller_env.running("bob", 2)
    backup.restore()
    await controller_env.restart_hub().reconcile()
    assert controller_env.state(old) is LeaseState.CLOSED
    assert (controller_env.state(new), controller_env.read(new).gpu_uuids) == (
        LeaseState.RUNNING,
        (GPU_0, GPU_1),
    )


async def test_an_old_backup_in_which_they_still_waited(
    controller_env: ControllerEnvironment,
) -> None:
    holder = await controller_env.running("alice", 2)
    waited = await controller_env.waiting("bob", 2)
    backup = Backup(controller_env)
    await controller_env.controller.release(holder.id, Cause.USER)
    running = await controller_env.running("bob", 2)
    assert running.id == waited.id
    backup.restore()
    await controller_env.restart_hub().reconcile()
    assert (controller_env.state(holder), controller_env.state(running)) == (
        LeaseState.CLOSED,
        LeaseState.RUNNING,
    )
    assert controller_env.read(running).gpu_uuids == (GPU_0, GPU_1)


async def test_a_granted_lease_whose_container_has_run_for_long_is_running(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.granted("alice")
    await controller_env.controller.launch(lease, {}, lambda _percent, _step: None)
    age(controller_env, controller_env.container(lease), SETTINGS.start_timeout_seconds + 60)
    await controller_env.restart_hub().reconcile()
    assert controller_env.state(lease) is LeaseState.RUNNING


async def test_the_hub_begins_by_itself(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.controller.RECONCILE_RETRY_SECONDS", 0.01)
    lease = replace(await controller_env.running(), id="f" * 16)
    controller_env.put(lease, is_running=False)
    controller = controller_env.restart_hub()
    controller_env.engine.plan("list", Fault.ERROR)
    await run_until(controller.run(), lambda: controller.is_ready)
