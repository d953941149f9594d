"""Drains and moves in line, as the ledger keeps them: with who and why, and without ending anything."""

import asyncio
import threading

import pytest

from spawner.ledger import Ledger
from spawner.ledger.trail import TrailAction, TrailFilter
from spawner.model import (
    Cause,
    Drain,
    Lease,
    LeaseState,
    QueueEnd,
    Quota,
    Reason,
    Refused,
)
from spawner.policy.admission import admit
from spawner.policy.queue import PATIENCE_SECONDS, select_priority
from testing.factories import GPU_0, GPU_1, make_gpu, make_lease, make_request
from tests.unit.controller_env import ControllerEnvironment
from tests.unit.ledger_helpers import advance, close, enqueue, grant, read

WHY = "the fan is loud"


def drain(ledger: Ledger, uuid: str = GPU_0, now: float = 5.5) -> bool:
    return ledger.drain(Drain(uuid, WHY, "root", now))


def last(ledger: Ledger) -> tuple[TrailAction, str, str, str | None]:
    (written,) = ledger.trail(TrailFilter(), limit=1)
    entry = written.entry
    return entry.action, entry.actor, entry.subject, entry.reason


def test_no_one_is_given_a_drained_gpu_until_it_is_undrained(ledger: Ledger) -> None:
    assert drain(ledger)
    assert drain(ledger, GPU_1)
    alice = enqueue(ledger, "alice")
    assert advance(ledger) == ([alice.id], {})
    assert ledger.undrain(GPU_1, by="root", reason="it is quiet", now=7.0)
    assert advance(ledger, now=8.0) == ([], {alice.id: (GPU_1,)})
    assert [one.gpu_uuid for one in ledger.drains()] == [GPU_0]
    assert set(ledger.snapshot(now=8.0).drains) == {GPU_0}


def test_who_has_it_keeps_it_and_no_one_gets_it_afterwards(ledger: Ledger) -> None:
    alice = grant(ledger, "alice", gpus=2)
    assert drain(ledger, now=7.0)
    assert read(ledger, alice).state is LeaseState.GRANTED
    close(ledger, read(ledger, alice))
    bob = enqueue(ledger, "bob")
    assert advance(ledger, now=10.0) == ([], {bob.id: (GPU_1,)})


def test_who_drained_it_and_why_is_in_the_trail(ledger: Ledger) -> None:
    drain(ledger)
    assert last(ledger) == (TrailAction.GPU_DRAINED, "root", GPU_0, WHY)
    assert drain(ledger) is False
    ledger.undrain(GPU_0, by="eve", reason="oiled", now=7.0)
    assert last(ledger) == (TrailAction.GPU_UNDRAINED, "eve", GPU_0, "oiled")
    assert ledger.undrain(GPU_0, by="eve", reason="oiled", now=7.0) is False
    assert len(ledger.trail()) == 2


def test_what_is_drained_does_not_count_as_there() -> None:
    gpus = [make_gpu(index) for index in range(3)]

    def request_lease(number: int) -> Refused | None:
        request = make_request("alice", number)
        return admit(request, gpus=gpus, leases=(), quota=Quota(), drained={GPU_0})

    assert request_lease(2) is None
    refused = request_lease(3)
    assert refused == Refused(
        Reason.NOT_ENOUGH_GPUS,
        "You asked for 3 GPUs, but this workbench has 2 (1 more is drained): ask for fewer.",
    )


async def test_the_controller_grants_and_admits_around_a_drain(
    controller_env: ControllerEnvironment,
) -> None:
    orders = controller_env.controller.admin_actions
    assert isinstance(await orders.drain(GPU_0, by="root", reason=WHY), Drain)
    assert (await controller_env.granted("alice")).gpu_uuids == (GPU_1,)
    refused = await controller_env.controller.acquire(make_request("bob", 2))
    assert isinstance(refused, Refused)
    assert "1 more is drained" in refused.message
    waits = await controller_env.waiting("bob")
    place = controller_env.controller.position_of(waits.id)
    assert place is not None
    held = await controller_env.controller.lease_of("alice", "")
    assert held is not None
    assert place.starts_at == controller_env.read(held).ends_at
    again = await orders.drain(GPU_0, by="root", reason=WHY)
    assert again == Refused(Reason.DRAINED, "GPU 0 is drained already.")
    nothing = await orders.drain("GPU-9", by="root", reason=WHY)
    assert isinstance(nothing, Refused)
    assert nothing.reason is Reason.NO_GPU
    assert await orders.undrain(GPU_0, by="root", reason="oiled") is None
    await controller_env.controller.leases_without_spawn()
    assert controller_env.read(waits).gpu_uuids == (GPU_0,)


async def test_what_was_granted_while_a_drain_waited_for_the_ledger_came_before_it(
    controller_env: ControllerEnvironment,
) -> None:
    orders = controller_env.controller.admin_actions
    ledger_is_free = threading.Event()
    busy = orders._in_ledger(ledger_is_free.wait)
    draining = asyncio.create_task(orders.drain(GPU_0, by="root", reason=WHY))
    await asyncio.sleep(0.1)
    controller_env.uptime += 5
    ledger_is_free.set()
    await busy
    drain = await draining
    assert isinstance(drain, Drain)
    assert drain.since == controller_env.clock()


# --- the line


def order(ledger: Ledger) -> list[str]:
    by_id = {lease.id: lease.user for lease in ledger.live_leases()}
    return [by_id[lease_id] for lease_id in advance(ledger)[0]]


def reorder(ledger: Ledger, lease: Lease, to: QueueEnd, now: float = 6.0) -> Lease | Refused:
    return ledger.reorder(lease.id, to, by="root", reason="a deadline", now=now)


def test_a_request_goes_first_or_last(ledger: Ledger) -> None:
    grant(ledger, "alice", gpus=2)
    bob, carol, dan = (enqueue(ledger, name, now=7.0 + i) for i, name in enumerate(("b", "c", "d")))
    reorder(ledger, dan, QueueEnd.FIRST)
    assert order(ledger) == ["d", "b", "c"]
    assert last(ledger) == (TrailAction.LEASE_MOVED, "root", f"lease {dan.id}", "a deadline")
    reorder(ledger, bob, QueueEnd.LAST)
    assert order(ledger) == ["d", "c", "b"]
    reorder(ledger, carol, QueueEnd.FIRST)
    assert order(ledger) == ["c", "d", "b"]
    moves = len(ledger.trail())
    reorder(ledger, carol, QueueEnd.FIRST)
    assert (order(ledger), len(ledger.trail())) == (["c", "d", "b"], moves), (
        "they are there already"
    )


def test_no_one_passes_who_has_waited_for_a_day(ledger: Ledger) -> None:
    grant(ledger, "alice", gpus=2)
    bob, carol = enqueue(ledger, "bob", now=7.0), enqueue(ledger, "carol", now=PATIENCE_SECONDS)
    now = PATIENCE_SECONDS + 10.0
    reorder(ledger, carol, QueueEnd.FIRST, now=now)
    assert advance(ledger, now=now)[0] == [bob.id, carol.id]
    refused = reorder(ledger, bob, QueueEnd.LAST, now=now)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.CANNOT_MOVE
    assert "bob has waited for more than 24 hours" in refused.message


def test_only_who_waits_can_be_moved(ledger: Ledger) -> None:
    alice = grant(ledger, "alice", gpus=2)
    for lease in (alice, make_lease(id="f" * 16)):
        refused = reorder(ledger, lease, QueueEnd.FIRST)
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.NO_LEASE


@pytest.mark.parametrize(
    ("to", "others", "priority"),
    [
        (QueueEnd.FIRST, [], 3),
        (QueueEnd.FIRST, [3, 5], 6),
        (QueueEnd.FIRST, [1], 3),
        (QueueEnd.LAST, [], 3),
        (QueueEnd.LAST, [3, 1], 0),
        (QueueEnd.LAST, [9], 3),
    ],
)
def test_a_priority_moves_no_further_than_it_has_to(
    to: QueueEnd, others: list[int], priority: int
) -> None:
    own = make_lease(priority=3)
    waiting = [make_lease(id=str(i), priority=one) for i, one in enumerate(others)]
    strangers = [make_lease(id="x", priority=99, mig_profile="1g.10gb")]
    assert select_priority(own, [own, *waiting, *strangers], to=to, now=1001.0) == priority


async def test_an_ended_lease_gives_the_reason_and_frees_its_gpus(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running("alice")
    assert await controller_env.controller.admin_actions.end_reason(lease.id) is None
    assert (
        await controller_env.controller.admin_actions.end(lease.id, by="root", reason=WHY) is None
    )
    assert (controller_env.state(lease), controller_env.read(lease).cause) == (
        LeaseState.CLOSING,
        Cause.ADMIN,
    )
    await controller_env.controller.tick()
    assert controller_env.state(lease) is LeaseState.CLOSED
    assert await controller_env.controller.admin_actions.end_reason(lease.id) == WHY
    assert (
        controller_env.ledger.trail(TrailFilter(action=TrailAction.LEASE_ENDED))[0].entry.actor
        == "root"
    )
    again = await controller_env.controller.admin_actions.end(lease.id, by="root", reason=WHY)
    assert isinstance(again, Refused)
    assert again.reason is Reason.NO_LEASE
