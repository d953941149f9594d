"""A GPU that failed is seen, quarantined and logged; silence changes nothing, and no container is touched."""

import asyncio
import logging
from dataclasses import replace

import pytest

from spawner.model import (
    Gpu,
    GpuHealth,
    LeaseState,
    Quarantine,
    Reason,
    Refused,
    Unknown,
)
from spawner.policy.formatting import format_gpu_name
from spawner.policy.health import GpuFailure, diagnose, format_running_failure, select_failures
from testing.eventually import eventually
from testing.factories import GPU_0, GPU_1, make_gpu, make_lease, make_request
from tests.unit.controller_env import ControllerEnvironment, run_until

HOUR = 3600.0
LOST = LeaseState.LOST


# --- who is ill


@pytest.mark.parametrize(
    ("gpu", "illness"),
    [
        (make_gpu(0), None),
        (make_gpu(0, GpuHealth.UNKNOWN), None),
        (make_gpu(0, GpuHealth.LOST), GpuFailure(GPU_0, "was lost by its driver", None)),
        (replace(make_gpu(0), xid=79, xid_at=5.0), GpuFailure(GPU_0, "failed (Xid 79)", 5.0)),
        (
            replace(make_gpu(0, GpuHealth.UNKNOWN), xid=79, xid_at=5.0),
            GpuFailure(GPU_0, "failed (Xid 79)", 5.0),
        ),
        (
            replace(make_gpu(0, GpuHealth.LOST), xid=79, xid_at=5.0),
            GpuFailure(GPU_0, "was lost by its driver", None),
        ),
    ],
)
def test_ill_is_only_what_was_reported_ill(gpu: Gpu, illness: GpuFailure | None) -> None:
    assert diagnose(gpu) == illness


def test_a_mig_instance_is_called_by_its_gpu() -> None:
    instance = replace(make_gpu(3), mig_profile="1g.10gb", mig_index=1)
    assert (format_gpu_name(make_gpu(3)), format_gpu_name(instance)) == (
        "GPU 3",
        "MIG instance 1 of GPU 3",
    )


def test_the_user_sees_which_gpu_what_and_what_to_do() -> None:
    gpus = {gpu.uuid: gpu for gpu in (make_gpu(0), make_gpu(1))}
    first = Quarantine(GPU_0, "failed (Xid 79)", 2000.0, 5.0)
    second = Quarantine(GPU_1, "was lost by its driver", 2000.0)
    advice = "save your work, stop the server and start it again."
    assert (
        format_running_failure([first], gpus) == f"GPU 0 of this server failed (Xid 79): {advice}"
    )
    assert format_running_failure([first], {}) == f"A GPU of this server failed (Xid 79): {advice}"
    assert format_running_failure([], gpus) == f"A GPU of this server failed: {advice}"
    assert format_running_failure([first, second], gpus) == (
        f"GPU 0 of this server failed (Xid 79), and GPU 1 was lost by its driver: {advice}"
    )


def test_an_earlier_users_failure_is_not_this_ones() -> None:
    lease = make_lease(gpu_uuids=(GPU_0,), granted_at=1000.0)
    earlier = Quarantine(
        GPU_0, "failed (Xid 79)", 999.0, 5.0, returned_at=999.5, returned_by="root"
    )
    later = replace(earlier, since=1001.0, returned_at=1002.0)
    before_it_was_adopted = replace(earlier, returned_at=None)
    assert select_failures(lease, [earlier, Quarantine(GPU_1, "", 1001.0)]) == ()
    assert select_failures(lease, [later, before_it_was_adopted]) == (later, before_it_was_adopted)


# --- the watch


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spawner.controller.health.CHECK_SECONDS", 0.01)
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 0.05)
    monkeypatch.setattr("spawner.controller.end_watcher.SETTLE_SECONDS", 0.05)


@pytest.mark.parametrize("how", ["lost", "xid"])
async def test_the_watch_quarantines_and_states_who_had_it(
    controller_env: ControllerEnvironment, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    lease = await controller_env.running()
    if how == "xid":
        controller_env.host.fail(0)
    else:
        controller_env.host.lose(0)
    await run_until(controller_env.controller.run(), lambda: "Lost lease" in caplog.text)
    assert controller_env.state(lease) is LOST
    assert controller_env.quarantined() == [GPU_0]
    assert caplog.text.count(f"GPU quarantined: gpu={GPU_0}") == 1
    (said,) = [line for line in caplog.messages if line.startswith("Lost ")]
    assert f"lease={lease.id} user=alice" in said
    name = controller_env.container(lease)
    assert controller_env.engine.containers[name].is_running
    assert not {("stop", name), ("delete", name)} & set(controller_env.engine.calls)


async def test_silence_and_unknown_health_quarantine_nothing(
    controller_env: ControllerEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await controller_env.running()
    asked = 0
    inventory = controller_env.host.inventory

    async def counted() -> tuple[Gpu, ...]:
        nonlocal asked
        asked += 1
        return await inventory()

    controller_env.host.inventory = counted  # type: ignore[method-assign]
    controller_env.host.gpus[0] = make_gpu(0, GpuHealth.UNKNOWN)
    with pytest.raises(AssertionError, match="not within"):
        await run_until(
            controller_env.controller.health.watch(),
            lambda: bool(controller_env.quarantined()),
            0.3,
        )
    controller_env.host.is_silent = True
    before = asked
    caplog.clear()
    with caplog.at_level(logging.WARNING, "spawner.controller.health"):
        await run_until(controller_env.controller.health.watch(), lambda: asked >= before + 5)
    assert caplog.text.count("GPU health unknown: state=unknown") == 1, (
        "logged once, not every time"
    )
    controller_env.host.is_silent = False
    controller_env.host.gpus.clear()  # the driver was unloaded
    await controller_env.controller.health.check()
    assert (controller_env.quarantined(), controller_env.state(lease)) == ([], LeaseState.RUNNING)


async def test_a_locked_ledger_only_delays_it(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = controller_env.ledger.quarantine, iter(range(3))

    def locked(*args: object, **options: object) -> object:
        if next(failures, None) is not None:
            raise Unknown("The ledger cannot be reached: database is locked.")
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(controller_env.ledger, "quarantine", locked)
    controller_env.host.fail(1)
    await run_until(
        controller_env.controller.health.watch(), lambda: controller_env.quarantined() == [GPU_1]
    )


async def test_every_instance_of_a_gpu_that_failed_is_ill(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.host.gpus = [
        replace(
            make_gpu(0), uuid=f"MIG-{i}", mig_profile="1g.10gb", mig_index=i, xid=79, xid_at=5.0
        )
        for i in range(2)
    ]
    await controller_env.controller.health.check()
    assert controller_env.quarantined() == ["MIG-0", "MIG-1"]


# --- the line


async def test_a_quarantined_gpu_exists_but_no_one_gets_it(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.host.fail(0)
    await controller_env.controller.health.check()
    assert (await controller_env.granted("alice")).gpu_uuids == (GPU_1,)
    await controller_env.waiting("bob", gpus=2)
    answer = await controller_env.controller.acquire(make_request("carol", 3))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.NOT_ENOUGH_GPUS


async def test_what_failed_while_no_hub_ran_is_not_granted(
    controller_env: ControllerEnvironment,
) -> None:
    alice = await controller_env.running("alice", 2)
    bob = await controller_env.waiting("bob")
    controller_env.host.fail(0)
    controller_env.engine.end(controller_env.container(alice), 1)
    await controller_env.restart_hub().reconcile()
    await controller_env.controller.leases_without_spawn()  # moves the line
    assert controller_env.read(bob).gpu_uuids == (GPU_1,)


# --- the admin's word


async def test_a_gpu_is_returned_once_and_the_same_xid_is_settled(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.host.fail(0)
    await controller_env.controller.health.check()
    returned = await controller_env.controller.health.release_gpu(GPU_0, "root")
    assert isinstance(returned, Quarantine)
    assert returned.returned_by == "root"
    await controller_env.controller.health.check()
    assert controller_env.quarantined() == []
    again = await controller_env.controller.health.release_gpu(GPU_0, "root")
    assert isinstance(again, Refused)
    assert again.message == "GPU 0 is not in quarantine: there is nothing to release."
    controller_env.host.fail(0, at=6.0)
    await controller_env.controller.health.check()
    assert controller_env.quarantined() == [GPU_0], "a newer one is news"


async def test_a_gpu_that_is_still_lost_is_not_returned(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.host.lose(0)
    await controller_env.controller.health.check()
    answer = await controller_env.controller.health.release_gpu(GPU_0, "root")
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.GPU_FAILED
    assert answer.message.startswith("GPU 0 still fails: it was lost by its driver.")
    controller_env.host.is_silent = True
    with pytest.raises(Unknown):
        await controller_env.controller.health.release_gpu(GPU_0, "root")
    assert controller_env.quarantined() == [GPU_0]


async def test_the_xid_of_a_gpu_that_was_lost_is_settled_with_its_return(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.host.gpus[0] = replace(make_gpu(0, GpuHealth.LOST), xid=79, xid_at=5.0)
    await controller_env.controller.health.check()
    controller_env.host.gpus[0] = replace(controller_env.host.gpus[0], health=GpuHealth.OK)
    assert isinstance(await controller_env.controller.health.release_gpu(GPU_0, "root"), Quarantine)
    await controller_env.controller.health.check()
    assert controller_env.quarantined() == []


async def test_a_returned_gpu_goes_to_the_next_at_once(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.queue.TICK_SECONDS", 3600.0)
    controller_env.host.fail(0)
    await controller_env.controller.health.check()
    bob = await controller_env.waiting("bob", gpus=2)
    controller_env.host.gpus[0] = make_gpu(0)

    run = asyncio.create_task(controller_env.controller.run())
    await eventually(lambda: controller_env.engine.events.listeners == 1)
    assert controller_env.state(bob) is LeaseState.WAITING
    await controller_env.controller.health.release_gpu(GPU_0, "root")
    await eventually(lambda: controller_env.state(bob) is LeaseState.GRANTED)
    run.cancel()


async def test_a_gpu_that_no_one_sees_any_more_can_be_returned(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.host.lose(0)
    await controller_env.controller.health.check()
    del controller_env.host.gpus[0]
    assert isinstance(await controller_env.controller.health.release_gpu(GPU_0, "root"), Quarantine)
    stranger = await controller_env.controller.health.release_gpu("GPU-x", "root")
    assert isinstance(stranger, Refused)
    assert stranger.reason is Reason.NO_QUARANTINE
