"""A lease is over only when it was seen to do nothing for the whole time, and a night's training never is."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spawner.policy.idle import (
    FINAL_REPORT_SECONDS,
    FORGET_SECONDS,
    ActivityReport,
    IdleRecord,
    IdleRules,
    Processes,
    Signs,
    seconds_left,
    should_release,
    update_record,
)

PERIOD = 10.0
RULES = IdleRules(
    minutes=60, warning_minutes=15, gpu_percent=0, memory=True, kernels=True, terminals=True
)
LIMIT = RULES.minutes * 60.0
HELD: Processes = frozenset({("GPU-0", 4711, 2**30)})
DAY = 86400.0


def quiet(at: float, **changes: Any) -> Signs:
    """Return the signs of a lease that does nothing, and whose kernels have done nothing since long ago."""
    signs = Signs(
        at=at,
        utilization_percent=(0, 0),
        processes=HELD,
        report=ActivityReport(at, 0, 1e6, 1e6),
    )
    return replace(signs, **changes)


def follow(signs: list[Signs], rules: IdleRules = RULES) -> tuple[IdleRecord, list[float]]:
    """Return what is thought at the end, and every moment at which the lease would have been ended."""
    seen, ends = IdleRecord(), []
    for one in signs:
        seen = update_record(seen, one, rules, PERIOD)
        if should_release(seen, rules, one.at):
            ends.append(one.at)
    return seen, ends


def looks(seconds: float, begin: float = 0.0) -> list[float]:
    return [begin + i * PERIOD for i in range(int(seconds / PERIOD) + 1)]


def test_who_does_nothing_is_warned_and_then_over() -> None:
    seen, warned, over = IdleRecord(), None, None
    for at in looks(LIMIT + 60):
        seen = update_record(seen, quiet(at), RULES, PERIOD)
        if warned is None and seconds_left(seen, RULES) is not None:
            warned = at
        if over is None and should_release(seen, RULES, at):
            over = at
    assert (warned, over) == (LIMIT - 15 * 60, LIMIT)


WORK: dict[str, Callable[[float, int], dict[str, Any]]] = {
    "a GPU computes": lambda at, i: {"utilization_percent": (0, 1)},
    "memory changes": lambda at, i: {"processes": frozenset({("GPU-0", 4711, i)})},
    "a kernel computes": lambda at, i: {"report": ActivityReport(at, 1, 1e6, 1e6)},
    "a kernel says something": lambda at, i: {"report": ActivityReport(at, 0, 5.0, 1e6)},
    "a terminal says something": lambda at, i: {"report": ActivityReport(at, 0, 1e6, 5.0)},
}


@pytest.mark.parametrize("what", WORK)
def test_a_training_of_three_days_is_never_ended(what: str) -> None:
    """It shows itself at one look of every fifty minutes only, and is silent in between."""
    signs = []
    for i, at in enumerate(looks(3 * DAY)):
        one = quiet(at)
        if i % 300 == 299:
            one = replace(one, **WORK[what](at, i))
        signs.append(one)
    assert follow(signs)[1] == []


@pytest.mark.parametrize(
    "unknown",
    [
        {"utilization_percent": (0, None)},
        {"processes": None},
        {"processes": frozenset({("GPU-0", 1, None)})},
        {"report": None},
        {"report": ActivityReport(0.0, 0, 1e6, 1e6)},
        {"report": ActivityReport(1e9, None, None, None)},
    ],
)
def test_what_no_one_knows_never_counts_as_idle(unknown: dict[str, object]) -> None:
    seen, ends = follow([quiet(at, **unknown) for at in looks(3 * DAY, begin=2 * DAY)])
    assert ends == []
    assert seen.quiet_seconds == 0.0


def test_work_is_seen_though_everything_else_is_unknown() -> None:
    seen, _ = follow([quiet(at) for at in looks(LIMIT / 2)])
    assert seen.quiet_seconds == LIMIT / 2
    signs = Signs(LIMIT / 2 + PERIOD, (None, 7), None, None)
    assert update_record(seen, signs, RULES, PERIOD).quiet_seconds == 0.0


def test_a_silence_is_not_counted_and_a_long_one_forgets_what_was_before() -> None:
    begin = looks(LIMIT / 2)
    for gap, quiet_before in ((300.0, LIMIT / 2), (FORGET_SECONDS + 60, 0.0)):
        resumed = begin[-1] + gap
        seen, _ = follow([quiet(at) for at in [*begin, resumed]])
        assert seen.quiet_seconds == quiet_before
        blind = [quiet(at, utilization_percent=(None, None)) for at in looks(gap, begin[-1])[1:-1]]
        seen, _ = follow([*(quiet(at) for at in begin), *blind, quiet(resumed)])
        assert seen.quiet_seconds == quiet_before


def test_a_hub_that_starts_has_seen_nothing() -> None:
    before = [quiet(at) for at in looks(LIMIT - PERIOD)]
    after = [quiet(at) for at in looks(LIMIT - PERIOD, begin=DAY)]
    assert follow(before)[1] == follow(after)[1] == []


def test_no_one_is_ended_on_an_old_word() -> None:
    seen, _ = follow([quiet(at) for at in looks(LIMIT - PERIOD)])
    report = ActivityReport(LIMIT - PERIOD, 0, 1e6, 1e6)
    last = LIMIT - PERIOD
    while last < LIMIT + 60:
        last += PERIOD
        seen = update_record(seen, quiet(last, report=report), RULES, PERIOD)
        assert should_release(seen, RULES, last) == (last - report.at <= FINAL_REPORT_SECONDS)
    seen = update_record(seen, quiet(last + PERIOD), RULES, PERIOD)
    assert should_release(seen, RULES, last + PERIOD)


@pytest.mark.parametrize(
    ("name", "off", "what"),
    [
        ("gpu_percent", 5, "a GPU computes"),
        ("memory", False, "memory changes"),
        ("kernels", False, "a kernel computes"),
        ("kernels", False, "a kernel says something"),
        ("terminals", False, "a terminal says something"),
    ],
)
def test_each_sign_can_be_left_out_of_account(name: str, off: object, what: str) -> None:
    rules = replace(RULES, **{name: off})  # type: ignore[arg-type]
    signs = []
    for i, at in enumerate(looks(LIMIT)):
        signs.append(quiet(at, **WORK[what](at, i)))
    assert follow(signs, RULES)[1] == []
    assert follow(signs, rules)[1] == [LIMIT]


def test_what_the_driver_does_not_state_can_be_left_out_of_account_and_what_it_states_counts() -> (
    None
):
    rules = replace(RULES, gpu_percent=None)
    unknown = [quiet(at, utilization_percent=(None, None)) for at in looks(LIMIT)]
    assert follow(unknown, RULES)[1] == []
    assert follow(unknown, rules)[1] == [LIMIT]
    assert follow([quiet(at, utilization_percent=(None, 1)) for at in looks(LIMIT)], rules)[1] == []


def test_nothing_is_ended_where_it_is_off() -> None:
    seen, ends = follow([quiet(at) for at in looks(DAY)], replace(RULES, minutes=0))
    assert ends == []
    assert seconds_left(seen, replace(RULES, minutes=0)) is None


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_who_is_ended_was_known_to_be_quiet_for_all_of_the_time(rng: random.Random) -> None:
    """Whatever is unknown, late or at work when: before every end lies the whole time, seen quiet, look by look."""
    at, seen, known_quiet = 0.0, IdleRecord(), 0.0
    short = replace(RULES, minutes=3)
    last_at: float | None = None
    for _ in range(400):
        at += rng.choice([PERIOD] * 12 + [PERIOD * 2, 500.0, 2000.0])
        one = quiet(at)
        kind = rng.choice(["quiet"] * 30 + ["unknown", "busy", "old"])
        if kind == "unknown":
            one = replace(one, utilization_percent=(0, None))
        elif kind == "busy":
            one = replace(one, utilization_percent=(50, 0))
        elif kind == "old":
            one = replace(one, report=ActivityReport(at - 400, 0, 1e6, 1e6))
        seen = update_record(seen, one, short, PERIOD)
        if kind == "busy":
            known_quiet = 0.0
        elif kind == "quiet" and last_at is not None and at - last_at <= 3 * PERIOD:
            known_quiet += at - last_at
        last_at = at if kind in ("quiet", "busy") else None
        if should_release(seen, short, at):
            assert known_quiet >= short.minutes * 60.0
            known_quiet, seen, last_at = 0.0, IdleRecord(), None
