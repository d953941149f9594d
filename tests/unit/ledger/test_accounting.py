"""GPU-hours held are the leases' own; used is what was measured, to one sample period, whatever is killed when."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spawner.ledger import Ledger
from spawner.model import Cause, Lease, LeaseState
from spawner.policy.usage import (
    BRIDGED_PERIODS,
    DAY_SECONDS,
    GroupBy,
    UsageSpan,
    measured_seconds,
    split_days,
    sum_usage,
    total,
)
from testing.factories import GPU_0, GPU_1, make_request
from tests.unit.ledger_helpers import advance, begin_closing, close, grant, request_lease
from tests.unit.ledger_helpers import read as read_lease

PERIOD = 10.0
NOON = 20_000 * DAY_SECONDS + DAY_SECONDS / 2


def record_sample(ledger: Ledger, now: float, **busy: float) -> None:
    gpus = {"gpu_0": GPU_0, "gpu_1": GPU_1}
    utilization = {gpus[name]: share for name, share in busy.items()}
    ledger.add_samples(utilization, now=now, period_seconds=PERIOD)


def read(ledger: Ledger, now: float, since: float = 0.0) -> list[UsageSpan]:
    return sorted(
        ledger.spans(since=since, until=now, now=now),
        key=lambda span: (span.lease_id, span.day, span.gpu_uuid),
    )


def make_span(**changes: object) -> UsageSpan:
    values: dict[str, object] = {
        "day": 20_000,
        "lease_id": "0123456789abcdef",
        "gpu_uuid": GPU_0,
        "uid": 20001,
        "user": "alice",
        "groups": (),
        "release": "v2.7",
        "held_seconds": 3600.0,
        "measured_seconds": 3600.0,
        "used_seconds": 1800.0,
    }
    return UsageSpan(**{**values, **changes})  # type: ignore[arg-type]


# --- days and sums


@given(st.floats(0, 1e10), st.floats(0, 1e6))
def test_days_share_out_exactly_the_time_there_was(start: float, seconds: float) -> None:
    parts = list(split_days(start, start + seconds))
    assert sum(part for _, part in parts) == pytest.approx(start + seconds - start, abs=1e-3)
    assert all(0 < part <= DAY_SECONDS for _, part in parts)
    assert all(later == earlier + 1 for (earlier, _), (later, _) in pairwise(parts))


@given(st.floats(0, 1e9), st.floats(-1e6, 1e6), st.floats(1, 600))
def test_a_sample_speaks_for_no_time_that_was_not_there_and_no_long_silence(
    last: float, gap: float, period: float
) -> None:
    seconds = measured_seconds(last, last + gap, period)
    assert 0 <= seconds <= max(BRIDGED_PERIODS * period, 0) + 1e-3
    assert seconds <= max(gap, 0) + 1e-3


def test_what_no_one_measured_is_neither_use_nor_idleness() -> None:
    (one,) = sum_usage([make_span(measured_seconds=0.0, used_seconds=0.0)], GroupBy.USER)
    assert (one.held_gpu_hours, one.used_gpu_hours, one.unmeasured_gpu_hours) == (1.0, None, 1.0)
    (other,) = sum_usage([make_span(used_seconds=0.0)], GroupBy.USER)
    assert (other.held_gpu_hours, other.used_gpu_hours, other.unmeasured_gpu_hours) == (
        1.0,
        0.0,
        0.0,
    )


def test_a_user_of_two_groups_counts_in_both_and_once_in_the_total() -> None:
    spans = [make_span(groups=("vision", "speech")), make_span(uid=2, groups=())]
    assert {one.key: one.held_gpu_hours for one in sum_usage(spans, GroupBy.GROUP)} == {
        "vision": 1.0,
        "speech": 1.0,
    }
    assert total(spans).held_gpu_hours == 2.0


def test_two_people_of_one_name_are_two() -> None:
    sums = sum_usage([make_span(), make_span(uid=20002, held_seconds=7200.0)], GroupBy.USER)
    assert [(one.label, one.held_gpu_hours) for one in sums] == [("alice", 2.0), ("alice", 1.0)]


# --- the ledger


def test_held_is_from_the_grant_to_the_end_exactly_and_split_at_midnight(ledger: Ledger) -> None:
    lease = grant(ledger, "alice", 2, now=NOON)
    end = NOON + DAY_SECONDS + 123.25
    begin_closing(ledger, lease, now=end)
    spans = read(ledger, now=end + 999.0)
    held = [(span.day, span.gpu_uuid, span.held_seconds) for span in spans]
    half = DAY_SECONDS / 2
    assert held == [
        (day, uuid, seconds)
        for day, seconds in ((20_000, half), (20_001, half + 123.25))
        for uuid in (GPU_0, GPU_1)
    ]
    hours = ledger.held_by_day(lease.uid, since=20_001 * DAY_SECONDS, now=end)
    assert hours == {20_001: pytest.approx(2 * (half + 123.25) / 3600)}
    assert ledger.held_by_day(lease.uid + 1, since=0.0, now=end) == {}


def test_use_is_the_part_of_the_time_in_which_it_computed(ledger: Ledger) -> None:
    lease = grant(ledger, "alice", 2, now=NOON)
    for step in range(1, 7):
        record_sample(ledger, NOON + step * PERIOD, gpu_0=0.5, gpu_1=step % 2)
    spans = read(ledger, now=NOON + 60.0)
    assert [(span.used_seconds, span.measured_seconds) for span in spans] == [(30.0, 60.0)] * 2
    used = ledger.used_by_day(lease.uid, since=NOON - DAY_SECONDS / 2, now=NOON + 60.0)
    assert used == {20_000: pytest.approx(60 / 3600)}


def test_silence_is_not_counted_as_zero(ledger: Ledger) -> None:
    grant(ledger, "alice", 2, now=NOON)
    record_sample(ledger, NOON + PERIOD, gpu_0=1.0)
    record_sample(ledger, NOON + 10 * PERIOD, gpu_0=1.0)
    first, second = read(ledger, now=NOON + 10 * PERIOD)
    assert (first.measured_seconds, first.used_seconds) == (2 * PERIOD, 2 * PERIOD)
    assert (second.measured_seconds, second.used_seconds) == (0.0, 0.0)
    (alice,) = sum_usage([first, second], GroupBy.USER)
    assert alice.unmeasured_gpu_hours == pytest.approx(18 * PERIOD / 3600)


def test_what_is_being_given_back_or_was_an_interrupted_start_is_nobodys(ledger: Ledger) -> None:
    lease = grant(ledger, "alice", now=NOON)
    closing = ledger.move(lease, LeaseState.CLOSING, now=NOON + 50, cause=Cause.INTERRUPTED)
    record_sample(ledger, NOON + 60, gpu_0=1.0)
    assert read(ledger, now=NOON + 60) == []
    again = ledger.requeue(closing)
    assert again.groups == lease.groups


def test_who_was_renamed_is_one_person_and_a_stranger_of_their_name_another(
    ledger: Ledger,
) -> None:
    first = close(ledger, grant(ledger, "alice", now=NOON), now=NOON + 3600)
    assert ledger.snapshot(now=NOON + 3600).use.keys() == {first.uid}
    renamed = ledger.get_or_create_account("alicia", "alice")
    stranger = ledger.get_or_create_account("alice", "another alice")
    assert renamed.uid == first.uid != stranger.uid


def test_who_requests_accounts_and_groups_sees_no_others(ledger: Ledger) -> None:
    odd = "tea\\m/ü%"
    uids = {}
    for user, groups in {"alice": ("vision", odd), "bob": ("vision 2",), "carol": ()}.items():
        lease = request_lease(ledger, replace(make_request(user), groups=groups), now=NOON)
        assert isinstance(lease, Lease)
        uids[user] = lease.uid
        advance(ledger, NOON)
        record_sample(ledger, NOON + PERIOD, gpu_0=1.0)
        close(ledger, read_lease(ledger, lease), now=NOON + PERIOD)

    def select_usage(*names: str, groups: tuple[str, ...] = ()) -> list[tuple[str, float]]:
        asked, now = [uids[name] for name in names], NOON + DAY_SECONDS
        found = ledger.spans(since=0.0, until=now, now=now, uids=asked, groups=groups)
        return sorted((span.user, span.used_seconds) for span in found)

    assert select_usage() == []
    assert select_usage("bob", "carol") == [("bob", PERIOD), ("carol", PERIOD)]
    assert select_usage("carol", groups=("vision",)) == [("alice", PERIOD), ("carol", PERIOD)]
    assert select_usage(groups=(odd,)) == [("alice", PERIOD)]


@settings(max_examples=25, deadline=None)  # each is a ledger on a disk
@given(
    phases=st.lists(st.tuples(st.integers(3, 40), st.booleans()), min_size=1, max_size=8),
    kills=st.sets(st.integers(0, 300), max_size=12),
    lost=st.sets(st.integers(0, 300), max_size=6),
)
def test_use_differs_from_the_truth_by_a_period_for_each_death_of_the_hub_at_most(
    tmp_path_factory: pytest.TempPathFactory,
    phases: list[tuple[int, bool]],
    kills: set[int],
    lost: set[int],
) -> None:
    """A GPU computes and rests by turns; the hub is killed, and commits are done without being answered."""
    url = f"sqlite:///{tmp_path_factory.mktemp('sim') / 'ledger.sqlite'}"
    ledger = Ledger.open(url, first_uid=20000)
    begin = NOON + DAY_SECONDS / 2 - 100.0  # midnight comes soon
    grant(ledger, "alice", now=begin)
    busy = [is_busy for steps, is_busy in phases for _ in range(steps)]
    for step, is_busy in enumerate(busy, 1):
        if step in kills:  # a hub that is killed, and its successor
            ledger.close()
            ledger = Ledger.open(url, first_uid=20000)
            continue
        at = begin + step * PERIOD
        record_sample(ledger, at, gpu_0=float(is_busy))
        if step in lost:  # it was committed, and the answer was lost
            record_sample(ledger, at, gpu_0=float(is_busy))
    end = begin + len(busy) * PERIOD
    spans = ledger.spans(since=0.0, until=end, now=end)
    ledger.close()
    truth = sum(busy) * PERIOD
    used = sum(span.used_seconds for span in spans)
    measured = sum(span.measured_seconds for span in spans)
    held = sum(span.held_seconds for span in spans)
    assert held == pytest.approx(len(busy) * PERIOD)
    assert used <= measured + 1e-6 <= held + 2e-6
    # the unmeasured time is that of the silences longer than a period
    slack = PERIOD * sum(1 for step in kills if step <= len(busy))
    assert truth - (held - measured) - slack <= used + 1e-6
    assert used <= truth + slack + 1e-6
    if not any(step <= len(busy) for step in kills):
        assert used == pytest.approx(truth)
        assert measured == pytest.approx(held)


def test_a_lease_is_read_with_its_groups(ledger: Ledger) -> None:
    lease = grant(ledger, "alice", now=NOON)
    assert isinstance(lease, Lease)
    assert ledger.lease(lease.id) == lease
