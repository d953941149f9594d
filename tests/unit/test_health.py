"""A GPU that failed is seen, quarantined and told of; silence changes nothing, and no container is touched."""

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
from spawner.policy.health import Illness, diagnose, find_failures, say_trouble
from spawner.policy.formatting import name_gpu
from tests.unit.made import GPU_0, GPU_1, make_gpu, make_lease, make_request
from tests.unit.workshop import Workshop, eventually, run_until

HOUR = 3600.0
LOST = LeaseState.LOST


# --- who is ill


@pytest.mark.parametrize(
    ("gpu", "illness"),
    [
        (make_gpu(0), None),
        (make_gpu(0, GpuHealth.UNKNOWN), None),
        (make_gpu(0, GpuHealth.LOST), Illness(GPU_0, "was lost by its driver", None)),
        (replace(make_gpu(0), xid=79, xid_at=5.0), Illness(GPU_0, "failed (Xid 79)", 5.0)),
        (
            replace(make_gpu(0, GpuHealth.UNKNOWN), xid=79, xid_at=5.0),
            Illness(GPU_0, "failed (Xid 79)", 5.0),
        ),
        (
            replace(make_gpu(0, GpuHealth.LOST), xid=79, xid_at=5.0),
            Illness(GPU_0, "was lost by its driver", None),
        ),
    ],
)
def test_ill_is_only_what_was_said_to_be_ill(gpu: Gpu, illness: Illness | None) -> None:
    assert diagnose(gpu) == illness


def test_a_mig_instance_is_called_by_its_gpu() -> None:
    instance = replace(make_gpu(3), mig_profile="1g.10gb", mig_index=1)
    assert (name_gpu(make_gpu(3)), name_gpu(instance)) == ("GPU 3", "MIG instance 1 of GPU 3")


def test_the_user_is_told_which_gpu_what_and_what_to_do() -> None:
    gpus = {gpu.uuid: gpu for gpu in (make_gpu(0), make_gpu(1))}
    first = Quarantine(GPU_0, "failed (Xid 79)", 2000.0, 5.0)
    second = Quarantine(GPU_1, "was lost by its driver", 2000.0)
    advice = "save your work, stop the server and start it again."
    assert say_trouble([first], gpus) == f"GPU 0 of this server failed (Xid 79): {advice}"
    assert say_trouble([first], {}) == f"A GPU of this server failed (Xid 79): {advice}"
    assert say_trouble([], gpus) == f"A GPU of this server failed: {advice}"
    assert say_trouble([first, second], gpus) == (
        f"GPU 0 of this server failed (Xid 79), and GPU 1 was lost by its driver: {advice}"
    )


def test_an_earlier_users_failure_is_not_this_ones() -> None:
    lease = make_lease(gpu_uuids=(GPU_0,), granted_at=1000.0)
    earlier = Quarantine(
        GPU_0, "failed (Xid 79)", 999.0, 5.0, returned_at=999.5, returned_by="root"
    )
    later = replace(earlier, since=1001.0, returned_at=1002.0)
    before_it_was_adopted = replace(earlier, returned_at=None)
    assert find_failures(lease, [earlier, Quarantine(GPU_1, "", 1001.0)]) == ()
    assert find_failures(lease, [later, before_it_was_adopted]) == (later, before_it_was_adopted)


# --- the watch


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spawner.controller.health.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 0.05)
    monkeypatch.setattr("spawner.controller.ends.SETTLE_SECONDS", 0.05)


@pytest.mark.parametrize("how", ["lost", "xid"])
async def test_the_watch_quarantines_and_says_who_had_it(
    shop: Workshop, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    lease = await shop.running()
    if how == "xid":
        shop.host.fail(0)
    else:
        shop.host.lose(0)
    await run_until(shop.controller.run(), lambda: "Lost lease" in caplog.text)
    assert shop.state(lease) is LOST
    assert shop.quarantined() == [GPU_0]
    assert caplog.text.count("Quarantined GPU 0") == 1
    (said,) = [line for line in caplog.messages if line.startswith("Lost ")]
    assert f"lease={lease.id} user=alice" in said
    name = shop.container(lease)
    assert shop.engine.containers[name].is_running
    assert not {("stop", name), ("delete", name)} & set(shop.engine.calls)


async def test_silence_and_unknown_health_quarantine_nothing(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await shop.running()
    asked = 0
    inventory = shop.host.inventory

    async def counted() -> tuple[Gpu, ...]:
        nonlocal asked
        asked += 1
        return await inventory()

    shop.host.inventory = counted  # type: ignore[method-assign]
    shop.host.gpus[0] = make_gpu(0, GpuHealth.UNKNOWN)
    with pytest.raises(TimeoutError):
        await run_until(shop.controller.health.watch(), lambda: bool(shop.quarantined()), 0.3)
    shop.host.is_silent = True
    before = asked
    caplog.clear()
    with caplog.at_level(logging.WARNING, "workbench.health"):
        await run_until(shop.controller.health.watch(), lambda: asked >= before + 5)
    assert caplog.text.count("Nobody knows how the GPUs are") == 1, "said once, not every time"
    shop.host.is_silent = False
    shop.host.gpus.clear()  # the driver was unloaded
    await shop.controller.health.look()
    assert (shop.quarantined(), shop.state(lease)) == ([], LeaseState.RUNNING)


async def test_a_locked_ledger_only_delays_it(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = shop.ledger.quarantine, iter(range(3))

    def locked(*args: object, **options: object) -> object:
        if next(failures, None) is not None:
            raise Unknown("The ledger cannot be reached: database is locked.")
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.ledger, "quarantine", locked)
    shop.host.fail(1)
    await run_until(shop.controller.health.watch(), lambda: shop.quarantined() == [GPU_1])


async def test_every_instance_of_a_gpu_that_failed_is_ill(shop: Workshop) -> None:
    shop.host.gpus = [
        replace(
            make_gpu(0), uuid=f"MIG-{i}", mig_profile="1g.10gb", mig_index=i, xid=79, xid_at=5.0
        )
        for i in range(2)
    ]
    await shop.controller.health.look()
    assert shop.quarantined() == ["MIG-0", "MIG-1"]


# --- the line


async def test_a_quarantined_gpu_exists_but_nobody_gets_it(shop: Workshop) -> None:
    shop.host.fail(0)
    await shop.controller.health.look()
    assert (await shop.granted("alice")).gpu_uuids == (GPU_1,)
    await shop.waiting("bob", gpus=2)
    answer = await shop.controller.acquire(make_request("carol", 3))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.NOT_ENOUGH_GPUS


async def test_what_failed_while_no_hub_looked_is_given_to_nobody(shop: Workshop) -> None:
    alice = await shop.running("alice", 2)
    bob = await shop.waiting("bob")
    shop.host.fail(0)
    shop.engine.end(shop.container(alice), 1)
    await shop.restart_hub().reconcile()
    await shop.controller.unattended()  # moves the line
    assert shop.read(bob).gpu_uuids == (GPU_1,)


# --- the admin's word


async def test_a_gpu_is_returned_once_and_the_same_xid_is_settled(shop: Workshop) -> None:
    shop.host.fail(0)
    await shop.controller.health.look()
    returned = await shop.controller.health.return_gpu(GPU_0, "root")
    assert isinstance(returned, Quarantine)
    assert returned.returned_by == "root"
    await shop.controller.health.look()
    assert shop.quarantined() == []
    again = await shop.controller.health.return_gpu(GPU_0, "root")
    assert isinstance(again, Refused)
    assert again.message == "GPU 0 is in no quarantine here: nothing to return."
    shop.host.fail(0, at=6.0)
    await shop.controller.health.look()
    assert shop.quarantined() == [GPU_0], "a newer one is news"


async def test_a_gpu_that_is_still_lost_is_not_returned(shop: Workshop) -> None:
    shop.host.lose(0)
    await shop.controller.health.look()
    answer = await shop.controller.health.return_gpu(GPU_0, "root")
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.GPU_FAILED
    assert answer.message.startswith("GPU 0 still is ill: it was lost by its driver.")
    shop.host.is_silent = True
    with pytest.raises(Unknown):
        await shop.controller.health.return_gpu(GPU_0, "root")
    assert shop.quarantined() == [GPU_0]


async def test_the_xid_of_a_gpu_that_was_lost_is_settled_with_its_return(shop: Workshop) -> None:
    shop.host.gpus[0] = replace(make_gpu(0, GpuHealth.LOST), xid=79, xid_at=5.0)
    await shop.controller.health.look()
    shop.host.gpus[0] = replace(shop.host.gpus[0], health=GpuHealth.OK)
    assert isinstance(await shop.controller.health.return_gpu(GPU_0, "root"), Quarantine)
    await shop.controller.health.look()
    assert shop.quarantined() == []


async def test_a_returned_gpu_goes_to_the_next_at_once(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.queue.TICK_SECONDS", 3600.0)
    shop.host.fail(0)
    await shop.controller.health.look()
    bob = await shop.waiting("bob", gpus=2)
    shop.host.gpus[0] = make_gpu(0)

    run = asyncio.create_task(shop.controller.run())
    await eventually(lambda: shop.engine.events.listeners == 1)
    assert shop.state(bob) is LeaseState.WAITING
    await shop.controller.health.return_gpu(GPU_0, "root")
    await eventually(lambda: shop.state(bob) is LeaseState.GRANTED)
    run.cancel()


async def test_a_gpu_that_nobody_sees_any_more_can_be_returned(shop: Workshop) -> None:
    shop.host.lose(0)
    await shop.controller.health.look()
    del shop.host.gpus[0]
    assert isinstance(await shop.controller.health.return_gpu(GPU_0, "root"), Quarantine)
    stranger = await shop.controller.health.return_gpu("GPU-x", "root")
    assert isinstance(stranger, Refused)
    assert stranger.reason is Reason.NO_QUARANTINE
