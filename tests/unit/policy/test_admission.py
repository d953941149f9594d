"""Admission: which requests may queue or start, and the sentences of the refusals."""

from dataclasses import replace
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawner.model import (
    Gpu,
    GpuHealth,
    Lease,
    LeaseState,
    Options,
    Quota,
    Reason,
    Refused,
    Request,
)
from spawner.policy.admission import admit, count_kinds
from spawner.policy.fair_share import accrue, decay
from spawner.policy.formatting import format_hours
from spawner.policy.quota_check import extend_lease
from testing.factories import GPU_0, GPU_1, make_gpu, make_lease, make_request

TWO = (make_gpu(1), make_gpu(0))
NO_LIMIT = Quota()
BOB = make_lease(id="b" * 16, user="bob", uid=20002, gpu_uuids=(GPU_0,))
HOUR = 3600.0


def refused(answer: object) -> Refused:
    assert isinstance(answer, Refused)
    assert "\n" not in answer.message
    return answer


@pytest.mark.parametrize("leases", [(), (BOB,), (replace(BOB, gpu_uuids=(GPU_0, GPU_1)),)])
def test_what_only_has_to_wait_is_admitted(leases: tuple[Lease, ...]) -> None:
    for gpus in (0, 1, 2):
        assert admit(make_request(gpus=gpus), gpus=TWO, leases=leases, quota=NO_LIMIT) is None


def test_a_sick_gpu_may_be_back_in_time() -> None:
    sick = (make_gpu(0, GpuHealth.LOST), make_gpu(1, GpuHealth.UNKNOWN))
    assert admit(make_request(gpus=2), gpus=sick, leases=(), quota=NO_LIMIT) is None


def test_no_gpu_is_always_admitted() -> None:
    request = Request("alice", "", Options("v2.7", 0, hours=1000.0), "alice")
    assert admit(request, gpus=(), leases=(BOB,), quota=Quota(max_gpus=0)) is None


def test_more_than_there_are_is_impossible() -> None:
    said = refused(admit(make_request(gpus=3), gpus=TWO, leases=(), quota=NO_LIMIT))
    assert said.reason is Reason.NOT_ENOUGH_GPUS
    assert "You asked for 3 GPUs, but this workbench has 2" in said.message


PROFILE = "1g.10gb"
PARTS = tuple(
    replace(make_gpu(2), uuid=f"MIG-{part}", mig_index=part, mig_profile=PROFILE) for part in (0, 1)
)


def request_for(gpus: int, profile: str | None) -> Request:
    return Request("alice", "", Options("v2.7", gpus, mig_profile=profile), "alice")


@pytest.mark.parametrize(
    ("asked", "profile", "host", "said"),
    [
        (3, None, (*TWO, *PARTS), "3 GPUs, but this workbench has 2: ask for fewer."),
        (3, PROFILE, (*TWO, *PARTS), "3 MIG instances 1g.10gb, but this workbench has 2: ask for"),
        (
            1,
            "3g.40gb",
            (*PARTS, *TWO),
            "1 MIG instance 3g.40gb, but this workbench has 2 GPUs and 2 MIG instances 1g.10gb: "
            "choose one of them.",
        ),
        (
            1,
            None,
            PARTS,
            "1 GPU, but this workbench has 2 MIG instances 1g.10gb: choose one of them.",
        ),
        (1, None, (), "1 GPU, but this workbench has no GPU: ask for 0 GPUs."),
    ],
)
def test_only_those_of_the_same_kind_count(
    asked: int, profile: str | None, host: tuple[Gpu, ...], said: str
) -> None:
    answer = refused(admit(request_for(asked, profile), gpus=host, leases=(), quota=NO_LIMIT))
    assert answer.reason is Reason.NOT_ENOUGH_GPUS
    assert said in answer.message
    assert admit(request_for(2, PROFILE), gpus=PARTS, leases=(), quota=NO_LIMIT) is None


def test_kinds_are_listed_whole_gpus_first_and_from_small_to_large() -> None:
    profiles = ["3g.40gb", "1g.10gb", None, "1g.5gb", "1g.5gb"]
    gpus = [replace(make_gpu(i), mig_profile=profile) for i, profile in enumerate(profiles)]
    assert list(count_kinds(gpus).items()) == [
        (None, 1),
        ("1g.5gb", 2),
        ("1g.10gb", 1),
        ("3g.40gb", 1),
    ]


def test_a_mig_instance_counts_as_one_gpu_in_the_quota() -> None:
    held = make_lease(server="other", gpu_uuids=(GPU_0,))
    answer = admit(request_for(2, PROFILE), gpus=PARTS, leases=(held,), quota=Quota(max_gpus=2))
    said = "You asked for 2 MIG instances 1g.10gb and hold or wait for 1, but your quota is 2"
    assert said in refused(answer).message
    assert (
        admit(request_for(1, PROFILE), gpus=PARTS, leases=(held,), quota=Quota(max_gpus=2)) is None
    )


@pytest.mark.parametrize(
    ("held", "waited_for", "asked", "most", "said"),
    [
        ((), 0, 2, 1, "You asked for 2 GPUs and hold or wait for 0, but your quota is 1 at once"),
        ((GPU_0,), 0, 1, 1, "hold or wait for 1, but your quota is 1 at once: start with 0 GPUs"),
        ((GPU_0, GPU_1), 0, 1, 1, "start with 0 GPUs"),
        ((GPU_0,), 1, 2, 3, "hold or wait for 2, but your quota is 3 at once: ask for 1 or fewer"),
    ],
)
def test_a_quota_states_asked_held_and_allowed(
    held: tuple[str, ...], waited_for: int, asked: int, most: int, said: str
) -> None:
    waiting = make_lease(server="w", gpu_count=waited_for, state=LeaseState.WAITING)
    leases = (make_lease(server="other", gpu_uuids=held), waiting)
    answer = admit(make_request(gpus=asked), gpus=TWO, leases=leases, quota=Quota(most))
    assert refused(answer).reason is Reason.OVER_QUOTA
    assert said in refused(answer).message


@pytest.mark.parametrize("used_up", [0, 1])
def test_a_quota_is_used_to_its_end(used_up: int) -> None:
    leases = (make_lease(server="other", gpu_uuids=(GPU_0,)),) if used_up else ()
    request = make_request(gpus=2 - used_up)
    assert admit(request, gpus=TWO, leases=leases, quota=Quota(max_gpus=2)) is None


def test_more_hours_than_the_quota_gives_are_refused_with_both_numbers() -> None:
    request = Request("alice", "", Options("v2.7", 1, hours=48.0), "alice")
    said = refused(admit(request, gpus=TWO, leases=(), quota=Quota(max_lease_hours=24)))
    assert said.reason is Reason.TOO_LONG
    assert "You asked for 48 hours, but your quota is 24 hours at a time" in said.message


def test_a_server_whose_last_lease_is_not_closed_is_refused() -> None:
    answer = admit(make_request("bob", 0), gpus=TWO, leases=(BOB,), quota=NO_LIMIT)
    assert refused(answer).reason is Reason.ALREADY_HELD


# --- extending

RUNNING = make_lease(state=LeaseState.RUNNING, gpu_uuids=(GPU_0,), ends_at=10 * HOUR)
QUOTA = Quota(max_lease_hours=4)


def extend(hours: float, *leases: Lease, now: float = 8 * HOUR) -> Lease | Refused:
    return extend_lease(("alice", ""), hours, leases=leases or (RUNNING,), quota=QUOTA, now=now)


def test_a_lease_is_extended_up_to_the_quota_from_now() -> None:
    assert extend(2) == replace(RUNNING, ends_at=12 * HOUR)
    said = refused(extend(2.5))
    assert said.reason is Reason.TOO_LONG
    assert "2.5 hours more" in said.message
    assert "4 hours from now: ask for at most 2 hours" in said.message


def test_a_lease_is_not_extended_while_others_wait() -> None:
    waiting = make_lease(id="w" * 16, user="bob", gpu_count=1, state=LeaseState.WAITING)
    assert refused(extend(1, RUNNING, waiting)).reason is Reason.OTHERS_WAIT


def test_who_waits_for_another_kind_keeps_no_one_from_extending() -> None:
    waiting = make_lease(
        id="w" * 16, user="bob", gpu_count=1, state=LeaseState.WAITING, mig_profile=PROFILE
    )
    assert isinstance(extend(1, RUNNING, waiting), Lease)


@pytest.mark.parametrize(
    "lease",
    [
        replace(RUNNING, user="bob"),
        replace(RUNNING, server="other"),
        replace(RUNNING, state=LeaseState.GRANTED),
        replace(RUNNING, state=LeaseState.CLOSING),
        replace(RUNNING, gpu_uuids=(), ends_at=None),
    ],
)
def test_nothing_else_is_extended(lease: Lease) -> None:
    assert refused(extend(1, lease)).reason is Reason.NO_LEASE


# --- numbers


@pytest.mark.parametrize(
    ("hours", "said"),
    [(1, "1 hour"), (1.0, "1 hour"), (24.0, "24 hours"), (1.999, "1.99 hours"), (0, "0 hours")],
)
def test_hours_are_formatted(hours: float, said: str) -> None:
    assert format_hours(hours) == said


def test_use_weighs_half_after_a_half_life() -> None:
    assert decay(8.0, 168 * HOUR, 168) == 4.0
    assert decay(8.0, 0, 168) == 8.0
    assert decay(8.0, 1e12, 1) == 0.0


@given(st.integers(0, 8), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1, 1e3))
def test_use_does_not_depend_on_how_a_time_is_cut(
    gpus: int, first: float, second: float, half_life: float
) -> None:
    at_once = accrue(gpus, first + second, half_life)
    in_two = decay(accrue(gpus, first, half_life), second, half_life) + accrue(
        gpus, second, half_life
    )
    assert isclose(at_once, in_two, rel_tol=1e-6, abs_tol=1e-9)


def test_short_use_is_counted_in_gpu_hours() -> None:
    assert isclose(accrue(2, HOUR, 1e9), 2.0, rel_tol=1e-6)


def test_who_waits_with_another_server_of_their_own_is_in_no_one_elses_way() -> None:
    waiting = make_lease(id="w" * 16, server="second", gpu_count=1, state=LeaseState.WAITING)
    assert isinstance(extend(1, RUNNING, waiting), Lease)
