"""Quota refusals: the sentence has the numbers requested, held and allowed, and what to do."""

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from spawner.model import Cap, Cause, Lease, LeaseState, Options, Quota, Reason, Refused, Request
from spawner.policy.quota_check import (
    MIN_USEFUL_HOURS,
    check_quota,
    coming_gpu_hours,
    extend_lease,
    held_gpu_hours,
    lease_hours,
)
from testing.factories import GPU_0, make_lease

HOUR = 3600.0
DAY = 24 * HOUR
NOW = 100 * DAY
WEEK = Quota(gpu_hours=100.0, window_days=7)


def make_request(gpus: int = 1, hours: float | None = None, release: str = "v2.7") -> Request:
    return Request("alice", "", Options(release, gpus, hours), "alice", ("vision",))


def running(user: str = "alice", gpus: int = 1, **values: Any) -> Lease:
    defaults = {
        "gpu_count": gpus,
        "state": LeaseState.RUNNING,
        "granted_at": NOW - HOUR,
        "ends_at": NOW + HOUR,
    }
    return make_lease(user=user, **{**defaults, **values})


def refuse(request: Request, quota: Quota, *leases: Lease, held: float = 0.0) -> Refused:
    refused = check_quota(request, quota, leases, held=held, now=NOW)
    assert refused is not None
    return refused


def test_a_release_that_is_not_allowed_is_refused_even_without_gpus() -> None:
    quota = Quota(releases=("v2.8", "v2.9"))
    refused = refuse(make_request(0), quota)
    assert refused.reason is Reason.RELEASE_NOT_ALLOWED
    assert refused.message == (
        "You asked for release v2.7, but your quota allows v2.8, v2.9: choose one of them, or ask an admin."
    )
    assert check_quota(make_request(release="v2.8"), quota, []) is None


def test_a_group_that_is_full_refuses_each_member() -> None:
    quota = Quota(caps=(Cap("vision", 4),))
    others = (running("bob", 2, groups=("vision",)), running("carol", 5, groups=("audio",)))
    assert check_quota(make_request(2), quota, others) is None
    refused = refuse(make_request(3), quota, *others)
    assert refused.reason is Reason.GROUP_FULL
    assert refused.message == (
        "You asked for 3 GPUs, and group vision holds or waits for 2, but it may have 4 in all: ask for 2 or fewer, or "
        "try again after a member has stopped a server."
    )


def test_a_group_counts_those_who_wait() -> None:
    quota = Quota(caps=(Cap("vision", 1),))
    waiting = running("bob", 1, groups=("vision",), state=LeaseState.WAITING, granted_at=None)
    assert "start with 0 GPUs" in refuse(make_request(1), quota, waiting).message


def test_gpu_hours_state_asked_held_coming_and_allowed() -> None:
    refused = refuse(make_request(2, 10), WEEK, running(gpus=2), held=90.0)
    assert refused.reason is Reason.OVER_GPU_HOURS
    assert refused.message == (
        "You asked for 2 GPUs for 10 hours, which is 20 GPU-hours, and held 90 GPU-hours in the last 7 days, and your "
        "present servers may take 2 more, but your quota is 100: ask for at most 4 hours, or try again when older "
        "hours have expired."
    )


def test_what_is_refused_states_what_would_not_be() -> None:
    held = 95.0
    assert "at most 2.5 hours" in refuse(make_request(2, 3), WEEK, held=held).message
    assert check_quota(make_request(2, 2.5), WEEK, [], held=held, now=NOW) is None


def test_who_does_not_state_how_long_gets_what_is_left() -> None:
    assert lease_hours(make_request(2), WEEK, [], 0.0, NOW) == 24.0
    assert lease_hours(make_request(2), WEEK, [], 90.0, NOW) == 5.0
    assert check_quota(make_request(2), WEEK, [], held=90.0, now=NOW) is None
    refused = refuse(make_request(2), WEEK, held=99.9)
    assert "You asked for 2 GPUs and held 99.9 GPU-hours" in refused.message
    assert "start with 0 GPUs" in refused.message


@example(gpus=7, held=92.75)  # 7 times the seventh of 7.25 is rounded to more than 7.25
@given(gpus=st.integers(1, 16), held=st.floats(0, 100))
def test_what_is_left_is_never_refused_to_who_does_not_state_how_long(
    gpus: int, held: float
) -> None:
    refused = check_quota(make_request(gpus), WEEK, [], held=held, now=NOW)
    assert (refused is None) == ((100.0 - held) / gpus >= MIN_USEFUL_HOURS)


def test_no_gpu_needs_no_hours() -> None:
    assert check_quota(make_request(0, 1000), WEEK, [], held=500.0, now=NOW) is None


@pytest.mark.parametrize(
    ("lease", "hours"),
    [
        (running(gpus=2), 2.0),
        (running(granted_at=NOW - 8 * DAY), 168.0),
        (running(granted_at=NOW - 9 * DAY, ended_at=NOW - 8 * DAY), 0.0),
        (running(granted_at=NOW - 9 * DAY, ended_at=NOW - 6 * DAY), 24.0),
        (running(granted_at=None, state=LeaseState.WAITING), 0.0),
        (running(gpus=0), 0.0),
        (running(ended_at=NOW, cause=Cause.INTERRUPTED), 0.0),
    ],
)
def test_the_hours_of_the_window_are_from_the_grant_to_the_end(lease: Lease, hours: float) -> None:
    assert held_gpu_hours([lease], WEEK, NOW) == hours


def test_what_may_come_is_to_the_end_or_all_of_what_waits() -> None:
    waiting = running(gpus=3, hours=2.0, state=LeaseState.WAITING, granted_at=None, ends_at=None)
    closing = running(state=LeaseState.CLOSING, ended_at=NOW)
    assert coming_gpu_hours([running(), waiting, closing, running(gpus=0)], NOW) == 7.0


@given(
    gpus=st.integers(1, 8),
    hours=st.floats(0.25, 24),
    held=st.floats(0, 120),
    holds=st.integers(0, 4),
)
def test_no_one_who_is_admitted_can_come_beyond_the_hours(
    gpus: int, hours: float, held: float, holds: int
) -> None:
    lease = running(gpus=holds)
    refused = check_quota(make_request(gpus, hours), WEEK, [lease], held=held, now=NOW)
    assert (refused is None) == (held + holds + gpus * hours <= 100.0 + 1e-9) or abs(
        held + holds + gpus * hours - 100.0
    ) < 1e-6


# --- extending


def extend(quota: Quota, *others: Lease, hours: float = 1.0, held: float = 0.0) -> Lease | Refused:
    mine = running(gpus=2, gpu_uuids=(GPU_0,), groups=("vision",))
    return extend_lease(
        ("alice", ""), hours, leases=(mine, *others), quota=quota, now=NOW, held=held
    )


def test_an_extension_within_the_quota_is_given() -> None:
    quota = replace(WEEK, max_gpus=2, caps=(Cap("vision", 2),), releases=("v2.7",))
    extended = extend(quota, held=96.0)
    assert isinstance(extended, Lease)
    assert extended.ends_at == NOW + 2 * HOUR


@pytest.mark.parametrize(
    ("quota", "reason", "said"),
    [
        (
            Quota(max_gpus=1),
            Reason.OVER_QUOTA,
            "You hold or wait for 2 GPUs, but your quota is now 1",
        ),
        (Quota(caps=(Cap("vision", 1),)), Reason.GROUP_FULL, "Group vision holds or waits for 2"),
        (Quota(releases=("v9",)), Reason.RELEASE_NOT_ALLOWED, "allows v9"),
        (WEEK, Reason.OVER_GPU_HOURS, "1 hour more of 2 GPUs and held 97.5 GPU-hours"),
    ],
)
def test_what_is_beyond_a_lowered_quota_is_not_extended(
    quota: Quota, reason: Reason, said: str
) -> None:
    refused = extend(quota, held=97.5)
    assert isinstance(refused, Refused)
    assert refused.reason is reason
    assert said in refused.message
