"""Drains and moves in line, as the ledger keeps them: with who and why, and without ending anything."""

import asyncio
import threading

import pytest

from spawner.ledger import Ledger
from spawner.ledger.trail import Action, Search
from spawner.model import (
    Cause,
    Drain,
    Lease,
    LeaseState,
    LineEnd,
    Quota,
    Reason,
    Refused,
)
from spawner.policy.admission import admit
from spawner.policy.queue import PATIENCE_SECONDS, find_priority
from tests.unit.ledger_desk import advance, close, grant, read, stand
from tests.unit.made import GPU_0, GPU_1, make_gpu, make_lease, make_request
from tests.unit.workshop import Workshop

WHY = "the fan is loud"


def drain(ledger: Ledger, uuid: str = GPU_0, now: float = 5.5) -> bool:
    return ledger.drain(Drain(uuid, WHY, "root", now))


def last(ledger: Ledger) -> tuple[Action, str, str, str | None]:
    (written,) = ledger.trail(Search(), limit=1)
    entry = written.entry
    return entry.action, entry.actor, entry.subject, entry.reason


def test_nobody_is_given_a_drained_gpu_until_it_is_undrained(ledger: Ledger) -> None:
    assert drain(ledger)
    assert drain(ledger, GPU_1)
    alice = stand(ledger, "alice")
    assert advance(ledger) == ([alice.id], {})
    assert ledger.undrain(GPU_1, by="root", reason="it is quiet", now=7.0)
    assert advance(ledger, now=8.0) == ([], {alice.id: (GPU_1,)})
    assert [one.gpu_uuid for one in ledger.drains()] == [GPU_0]
    assert set(ledger.standing(now=8.0).drains) == {GPU_0}


def test_whoever_has_it_keeps_it_and_nobody_gets_it_afterwards(ledger: Ledger) -> None:
    alice = grant(ledger, "alice", gpus=2)
    assert drain(ledger, now=7.0)
    assert read(ledger, alice).state is LeaseState.GRANTED
    close(ledger, read(ledger, alice))
    bob = stand(ledger, "bob")
    assert advance(ledger, now=10.0) == ([], {bob.id: (GPU_1,)})


def test_who_drained_it_and_why_is_in_the_trail(ledger: Ledger) -> None:
    drain(ledger)
    assert last(ledger) == (Action.GPU_DRAINED, "root", GPU_0, WHY)
    assert drain(ledger) is False
    ledger.undrain(GPU_0, by="eve", reason="oiled", now=7.0)
    assert last(ledger) == (Action.GPU_UNDRAINED, "eve", GPU_0, "oiled")
    assert ledger.undrain(GPU_0, by="eve", reason="oiled", now=7.0) is False
    assert len(ledger.trail()) == 2


def test_what_is_drained_does_not_count_as_there() -> None:
    gpus = [make_gpu(index) for index in range(3)]

    def ask(number: int) -> Refused | None:
        request = make_request("alice", number)
        return admit(request, gpus=gpus, leases=(), quota=Quota(), drained={GPU_0})

    assert ask(2) is None
    refused = ask(3)
    assert refused == Refused(
        Reason.NOT_ENOUGH_GPUS,
        "You asked for 3 GPUs, but this workbench has 2 (1 more is drained): ask for fewer.",
    )


async def test_the_controller_grants_and_admits_around_a_drain(shop: Workshop) -> None:
    orders = shop.controller.orders
    assert isinstance(await orders.drain(GPU_0, by="root", reason=WHY), Drain)
    assert (await shop.granted("alice")).gpu_uuids == (GPU_1,)
    refused = await shop.controller.acquire(make_request("bob", 2))
    assert isinstance(refused, Refused)
    assert "1 more is drained" in refused.message
    waits = await shop.waiting("bob")
    place = shop.controller.place_of(waits.id)
    assert place is not None
    assert place.starts_at == shop.read(await shop.controller.lease_of("alice", "")).ends_at
    again = await orders.drain(GPU_0, by="root", reason=WHY)
    assert again == Refused(Reason.DRAINED, "GPU 0 is drained already.")
    nothing = await orders.drain("GPU-9", by="root", reason=WHY)
    assert isinstance(nothing, Refused)
    assert nothing.reason is Reason.NO_GPU
    assert await orders.undrain(GPU_0, by="root", reason="oiled") is None
    await shop.controller.unattended()
    assert shop.read(waits).gpu_uuids == (GPU_0,)


async def test_what_was_granted_while_a_drain_waited_for_the_ledger_came_before_it(
    shop: Workshop,
) -> None:
    orders = shop.controller.orders
    ledger_is_free = threading.Event()
    busy = orders._in_ledger(ledger_is_free.wait)
    draining = asyncio.create_task(orders.drain(GPU_0, by="root", reason=WHY))
    await asyncio.sleep(0.1)
    shop.uptime += 5
    ledger_is_free.set()
    await busy
    drain = await draining
    assert isinstance(drain, Drain)
    assert drain.since == shop.clock()


# --- the line


def order(ledger: Ledger) -> list[str]:
    by_id = {lease.id: lease.user for lease in ledger.live_leases()}
    return [by_id[lease_id] for lease_id in advance(ledger)[0]]


def reorder(ledger: Ledger, lease: Lease, to: LineEnd, now: float = 6.0) -> Lease | Refused:
    return ledger.reorder(lease.id, to, by="root", reason="a deadline", now=now)


def test_somebody_goes_first_or_last(ledger: Ledger) -> None:
    grant(ledger, "alice", gpus=2)
    bob, carol, dan = (stand(ledger, name, now=7.0 + i) for i, name in enumerate(("b", "c", "d")))
    reorder(ledger, dan, LineEnd.FIRST)
    assert order(ledger) == ["d", "b", "c"]
    assert last(ledger) == (Action.LEASE_MOVED, "root", f"lease {dan.id}", "a deadline")
    reorder(ledger, bob, LineEnd.LAST)
    assert order(ledger) == ["d", "c", "b"]
    reorder(ledger, carol, LineEnd.FIRST)
    assert order(ledger) == ["c", "d", "b"]
    moves = len(ledger.trail())
    reorder(ledger, carol, LineEnd.FIRST)
    assert (order(ledger), len(ledger.trail())) == (["c", "d", "b"], moves), (
        "they are there already"
    )


def test_nobody_passes_who_has_waited_for_a_day(ledger: Ledger) -> None:
    grant(ledger, "alice", gpus=2)
    bob, carol = stand(ledger, "bob", now=7.0), stand(ledger, "carol", now=PATIENCE_SECONDS)
    now = PATIENCE_SECONDS + 10.0
    reorder(ledger, carol, LineEnd.FIRST, now=now)
    assert advance(ledger, now=now)[0] == [bob.id, carol.id]
    refused = reorder(ledger, bob, LineEnd.LAST, now=now)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.CANNOT_MOVE
    assert "bob has waited for more than 24 hours" in refused.message


def test_only_who_waits_can_be_moved(ledger: Ledger) -> None:
    alice = grant(ledger, "alice", gpus=2)
    for lease in (alice, make_lease(id="f" * 16)):
        refused = reorder(ledger, lease, LineEnd.FIRST)
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.NO_LEASE


@pytest.mark.parametrize(
    ("to", "others", "priority"),
    [
        (LineEnd.FIRST, [], 3),
        (LineEnd.FIRST, [3, 5], 6),
        (LineEnd.FIRST, [1], 3),
        (LineEnd.LAST, [], 3),
        (LineEnd.LAST, [3, 1], 0),
        (LineEnd.LAST, [9], 3),
    ],
)
def test_a_priority_moves_no_further_than_it_has_to(
    to: LineEnd, others: list[int], priority: int
) -> None:
    own = make_lease(priority=3)
    waiting = [make_lease(id=str(i), priority=one) for i, one in enumerate(others)]
    strangers = [make_lease(id="x", priority=99, mig_profile="1g.10gb")]
    assert find_priority(own, [own, *waiting, *strangers], to=to, now=1001.0) == priority


async def test_an_ended_lease_says_why_and_frees_its_gpus(shop: Workshop) -> None:
    lease = await shop.running("alice")
    assert await shop.controller.orders.why_ended(lease.id) is None
    assert await shop.controller.orders.end(lease.id, by="root", reason=WHY) is None
    assert (shop.state(lease), shop.read(lease).cause) == (LeaseState.CLOSING, Cause.ADMIN)
    await shop.controller.tick()
    assert shop.state(lease) is LeaseState.CLOSED
    assert await shop.controller.orders.why_ended(lease.id) == WHY
    assert shop.ledger.trail(Search(action=Action.LEASE_ENDED))[0].entry.actor == "root"
    again = await shop.controller.orders.end(lease.id, by="root", reason=WHY)
    assert isinstance(again, Refused)
    assert again.reason is Reason.NO_LEASE
