"""The ledger's quarantine: a failed GPU is not granted until an admin releases it, and then it is again."""

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from spawner.ledger import Ledger
from spawner.model import Cause, Lease, LeaseState, Quota, StaleLease
from spawner.policy.queue import plan_queue
from testing.factories import GPU_0, GPU_1, make_gpu, make_lease, make_request

XID = "failed (Xid 79)"
LOST = "was lost by its driver"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}", first_uid=20000)
    yield opened
    opened.close()


def advance(ledger: Ledger, now: float) -> None:
    def plan(
        waiting: Sequence[Lease],
        holding: Sequence[Lease],
        use: Mapping[int, float],
        quarantined: Set[str],
    ) -> Mapping[str, tuple[str, ...]]:
        gpus = [gpu for gpu in map(make_gpu, range(2)) if gpu.uuid not in quarantined]
        return plan_queue(waiting, leases=holding, gpus=gpus, recent_gpu_hours=use, now=now).grants

    ledger.advance(plan, now=now)


def grant(ledger: Ledger, user: str = "alice", gpus: int = 1, now: float = 5.0) -> Lease:
    lease = ledger.admit(make_request(user, gpus), lambda *_: None, quota=Quota(), now=now)
    assert isinstance(lease, Lease)
    advance(ledger, now)
    return read(ledger, lease)


def read(ledger: Ledger, lease: Lease) -> Lease:
    found = ledger.lease(lease.id)
    assert found is not None
    return found


def ill(ledger: Ledger) -> list[str]:
    return [quarantine.gpu_uuid for quarantine in ledger.quarantines()]


def test_a_lease_in_hand_is_lost_and_keeps_its_gpus(ledger: Ledger) -> None:
    granted = grant(ledger, gpus=2)
    running = ledger.move(granted, LeaseState.RUNNING, now=6.0)
    (lost,) = ledger.quarantine(GPU_1, XID, xid_at=1.0, now=7.0) or ()
    assert lost == read(ledger, running)
    assert (lost.state, lost.gpu_uuids) == (LeaseState.LOST, (GPU_0, GPU_1))
    with pytest.raises(StaleLease):
        ledger.move(running, LeaseState.CLOSING, now=8.0, cause=Cause.USER)
    closing = ledger.move(lost, LeaseState.CLOSING, now=8.0, cause=Cause.USER)
    ledger.move(closing, LeaseState.CLOSED, now=9.0)
    assert ill(ledger) == [GPU_1], "the GPU stays where it is"
    assert grant(ledger, "bob", now=10.0).gpu_uuids == (GPU_0,)
    assert grant(ledger, "carol", now=11.0).state is LeaseState.WAITING


def test_only_who_has_the_gpu_is_touched(ledger: Ledger) -> None:
    alice, bob = grant(ledger, "alice"), grant(ledger, "bob")
    waiting = grant(ledger, "carol")
    (lost,) = ledger.quarantine(alice.gpu_uuids[0], LOST, xid_at=None, now=7.0) or ()
    assert lost.id == alice.id
    assert lost.state is LeaseState.LOST, "one that was starting, too"
    assert [read(ledger, lease) for lease in (bob, waiting)] == [bob, waiting]


def test_a_lease_that_is_closing_goes_on_closing(ledger: Ledger) -> None:
    closing = ledger.move(grant(ledger), LeaseState.CLOSING, now=6.0, cause=Cause.USER)
    assert ledger.quarantine(GPU_0, LOST, xid_at=None, now=7.0) == ()
    assert read(ledger, closing) == closing


def test_a_gpu_is_quarantined_once(ledger: Ledger) -> None:
    assert ledger.quarantine(GPU_0, XID, xid_at=1.0, now=7.0) == ()
    for reason, xid_at in ((XID, 1.0), (XID, 2.0), (LOST, None)):
        assert ledger.quarantine(GPU_0, reason, xid_at=xid_at, now=8.0) is None
    (quarantine,) = ledger.quarantines()
    assert (quarantine.reason, quarantine.since, quarantine.xid_at) == (XID, 7.0, 1.0)


def test_a_lease_that_is_adopted_on_it_later_is_lost_as_well(ledger: Ledger) -> None:
    ledger.quarantine(GPU_0, XID, xid_at=1.0, now=7.0)
    adopted = make_lease(gpu_uuids=(GPU_0, GPU_1), state=LeaseState.RUNNING)
    assert ledger.adopt(adopted)
    assert read(ledger, adopted).state is LeaseState.LOST


def test_who_returned_it_and_when_is_kept(ledger: Ledger) -> None:
    assert ledger.release_gpu(GPU_0, by="root", xid_at=None, now=8.0) is None
    ledger.quarantine(GPU_0, XID, xid_at=1.0, now=7.0)
    returned = ledger.release_gpu(GPU_0, by="root", xid_at=1.0, now=9.0)
    assert returned is not None
    assert (returned.returned_by, returned.returned_at) == ("root", 9.0)
    assert ledger.release_gpu(GPU_0, by="eve", xid_at=1.0, now=10.0) is None
    assert ledger.last_quarantines() == (returned,)
    assert ledger.quarantines() == ()
    assert grant(ledger, now=11.0).gpu_uuids == (GPU_0,)


looks = st.sampled_from(
    ["look", "look", "return", "xid", "xid of a clock set back", "lose", "repair"]
)


@given(st.lists(looks, min_size=3, max_size=30))
@settings(deadline=None)
def test_what_an_admin_returned_is_settled_and_what_comes_later_is_not(steps: list[str]) -> None:
    """``settled_at`` is the last Xid that there was at a return."""
    ledger = Ledger.open("sqlite://", first_uid=20000)
    times = itertools.count(1.0)
    is_lost, xid_at, settled_at = False, None, None
    for step in steps:
        now = next(times)
        is_in_it = ill(ledger) == [GPU_0]
        if step.startswith("xid"):
            xid_at = now if step == "xid" else -now
        elif step in ("lose", "repair"):
            is_lost = step == "lose"
        elif step == "return":
            returned = ledger.release_gpu(GPU_0, by="root", xid_at=xid_at, now=now)
            assert (returned is not None) == is_in_it
            settled_at = xid_at if is_in_it and xid_at is not None else settled_at
            assert ill(ledger) == []
        elif is_lost or xid_at is not None:
            reason = LOST if is_lost else XID
            ledger.quarantine(GPU_0, reason, xid_at=None if is_lost else xid_at, now=now)
            is_news = is_lost or xid_at != settled_at
            assert (ill(ledger) == [GPU_0]) == (is_in_it or is_news)
    ledger.close()
