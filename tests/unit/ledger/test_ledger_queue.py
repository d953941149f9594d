"""The queue in the ledger, on both databases: positions, exclusive grants, and their order."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest

from spawner.ledger import Ledger
from spawner.model import (
    Cause,
    IllegalTransition,
    Lease,
    LeaseState,
    Options,
    Reason,
    Refused,
    Request,
    StaleLease,
    StartMode,
    Unknown,
    WhenIdle,
)
from spawner.policy.queue import PRESENT_SECONDS
from testing.factories import GPU_0, GPU_1, make_request
from tests.unit.ledger_helpers import (
    HOUR,
    advance,
    begin_closing,
    enqueue,
    grant,
    read,
    request_lease,
)

_T = TypeVar("_T")


def test_a_place_in_line_becomes_a_grant_that_holds_until_it_is_closed(ledger: Ledger) -> None:
    first, second, third = (enqueue(ledger, user) for user in ("alice", "bob", "carol"))
    assert (first.state, first.priority, first.hours) == (LeaseState.WAITING, 3, 8)
    assert advance(ledger) == ([third.id], {first.id: (GPU_0,), second.id: (GPU_1,)})
    granted = read(ledger, first)
    assert (granted.state, granted.granted_at, granted.ends_at) == (
        LeaseState.GRANTED,
        6.0,
        6.0 + 8 * HOUR,
    )
    assert granted.is_claimed, "alice has only just asked"

    closing = begin_closing(ledger, granted)
    assert advance(ledger) == ([third.id], {}), "closing is not free"
    closed = ledger.move(closing, LeaseState.CLOSED, now=9.5)
    assert (closed.ended_at, closed.cause) == (9.0, Cause.USER)
    assert advance(ledger) == ([], {third.id: (GPU_0,)})


def test_a_server_without_gpus_never_waits(ledger: Ledger) -> None:
    grant(ledger, "alice", 2)
    lease = enqueue(ledger, "bob", 0)
    assert (lease.state, lease.ends_at, lease.is_claimed) == (LeaseState.GRANTED, None, True)


def test_who_comes_late_to_their_turn_has_not_claimed_it(ledger: Ledger) -> None:
    lease = enqueue(ledger, "alice", now=5.0)
    advance(ledger, now=5.0 + PRESENT_SECONDS + 1)
    granted = read(ledger, lease)
    assert granted.is_claimed is False
    running = ledger.move(granted, LeaseState.RUNNING, now=70.0)
    assert ledger.mark_claimed(running).is_claimed is True
    with pytest.raises(StaleLease):
        ledger.mark_claimed(running)


def test_a_spawn_that_is_issued_anew_keeps_its_place(ledger: Ledger) -> None:
    grant(ledger, "x", 2)
    first, second = enqueue(ledger, "alice"), enqueue(ledger, "bob")
    assert enqueue(ledger, "alice", now=50.0) == first
    assert advance(ledger)[0] == [first.id, second.id]


def test_another_choice_for_idle_gpus_or_the_home_keeps_the_position(ledger: Ledger) -> None:
    first, second = enqueue(ledger, "alice"), enqueue(ledger, "bob")
    request = make_request("alice")
    changed = replace(request, options=replace(request.options, when_idle=WhenIdle.GO_ON))
    changed = replace(changed, options=replace(changed.options, start_mode=StartMode.REPAIR))
    lease = request_lease(ledger, changed)
    assert lease == replace(
        first, epoch=first.epoch + 1, when_idle=WhenIdle.GO_ON, start_mode=StartMode.REPAIR
    )
    assert ledger.live_leases() == (lease, second)
    assert request_lease(ledger, changed) == lease


def test_another_wish_goes_to_the_end_and_an_impossible_one_changes_nothing(
    ledger: Ledger,
) -> None:
    grant(ledger, "x", 2)
    first, second = enqueue(ledger, "alice"), enqueue(ledger, "bob", now=6.0)
    refused = request_lease(ledger, make_request("alice", 3), now=50.0)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.NOT_ENOUGH_GPUS
    assert read(ledger, first) == first

    again = enqueue(ledger, "alice", 2, now=51.0)
    assert read(ledger, first).state is LeaseState.CLOSED
    assert read(ledger, first).cause is Cause.USER
    assert advance(ledger)[0] == [second.id, again.id]


def test_a_grant_that_no_one_came_for_is_found_again(ledger: Ledger) -> None:
    lease = grant(ledger, "alice")
    assert enqueue(ledger, "alice") == lease
    running = ledger.move(lease, LeaseState.RUNNING, now=7.0)
    refused = request_lease(ledger, make_request("alice"))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.ALREADY_HELD
    assert read(ledger, lease) == running


def test_the_hours_are_those_requested(ledger: Ledger) -> None:
    lease = request_lease(ledger, Request("alice", "", Options("v2.7", 1, hours=0.5), "alice"))
    assert isinstance(lease, Lease)
    advance(ledger, now=6.0)
    assert read(ledger, lease).ends_at == 6.0 + 0.5 * HOUR


def test_the_order_survives_the_next_hub(ledger: Ledger, ledger_url: str) -> None:
    grant(ledger, "x", 2)
    line = [enqueue(ledger, user, now=now).id for now, user in enumerate("dacb", start=10)]
    other = Ledger.open(ledger_url, first_uid=20000)
    assert advance(other)[0] == line
    other.close()


def retry_unknown(request: Callable[[], _T]) -> _T:
    """Ask again while the database is too busy to answer, as callers do."""
    while True:
        with contextlib.suppress(Unknown):
            return request()


def test_two_hundred_requests_from_two_hubs_get_two_gpus_once(
    ledger: Ledger, ledger_url: str
) -> None:
    other = Ledger.open(ledger_url, first_uid=20000)

    def request_and_advance(i: int) -> list[tuple[str, ...]]:
        hub = (ledger, other)[i % 2]
        retry_unknown(lambda: enqueue(hub, f"user{i}"))
        return list(retry_unknown(lambda: advance(hub))[1].values())

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(request_and_advance, range(200)))
    other.close()
    assert sorted(held for answer in answers for held in answer) == [(GPU_0,), (GPU_1,)]


def test_a_plan_that_gives_out_a_held_gpu_changes_nothing(ledger: Ledger) -> None:
    held = grant(ledger, "alice")
    first, second = enqueue(ledger, "bob"), enqueue(ledger, "carol")
    wrong = {first.id: (GPU_1,), second.id: held.gpu_uuids}
    with pytest.raises(Exception, match=r"(?i)unique"):
        ledger.advance(lambda *_: wrong, now=6.0)
    assert read(ledger, first) == first
    assert read(ledger, second) == second


def test_a_start_that_died_goes_back_to_its_old_place_under_a_new_id(ledger: Ledger) -> None:
    granted = grant(ledger, "alice", 2, now=5.0)
    behind = enqueue(ledger, "bob", now=6.0)
    with pytest.raises(IllegalTransition):
        ledger.requeue(granted)
    closing = ledger.move(granted, LeaseState.CLOSING, now=7.0, cause=Cause.INTERRUPTED)
    again = ledger.requeue(closing)
    assert again.id != granted.id
    assert again == enqueue(ledger, "alice", 2)
    assert (again.requested_at, again.granted_at, again.gpu_uuids) == (5.0, None, ())
    assert read(ledger, granted).state is LeaseState.CLOSED
    assert advance(ledger) == ([behind.id], {again.id: (GPU_0, GPU_1)})
    assert ledger.last_lease("alice", "") == read(ledger, again)
