"""Who gets which GPU, and the sentences of those who get none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawner.model import GpuHealth, Quota, Reason, Refused
from spawner.policy.allocate import allocate
from tests.unit.made import GPU_0, GPU_1, make_gpu, make_lease, make_request

TWO = (make_gpu(1), make_gpu(0))
NO_LIMIT = Quota()
BOB = make_lease(id="b" * 16, user="bob", uid=20002, gpu_uuids=(GPU_0,))


def refused(answer: object) -> Refused:
    assert isinstance(answer, Refused)
    assert "\n" not in answer.message
    return answer


def test_the_lowest_free_indices_are_given() -> None:
    assert allocate(make_request(gpus=1), gpus=TWO, leases=(), quota=NO_LIMIT, now=0) == (GPU_0,)
    assert allocate(make_request(gpus=1), gpus=TWO, leases=(BOB,), quota=NO_LIMIT, now=0) == (
        GPU_1,
    )
    assert allocate(make_request(gpus=2), gpus=TWO, leases=(), quota=NO_LIMIT, now=0) == (
        GPU_0,
        GPU_1,
    )


def test_no_gpu_is_always_given() -> None:
    none = Quota(max_gpus=0)
    assert allocate(make_request(gpus=0), gpus=(), leases=(BOB,), quota=none, now=0) == ()


def test_a_refusal_names_who_holds_what_and_for_how_long() -> None:
    carol = make_lease(id="c" * 16, user="carol", gpu_uuids=(GPU_1,), granted_at=1000)
    now = 1000 + 3 * 3600 + 5 * 60
    answer = allocate(make_request(gpus=2), gpus=TWO, leases=(BOB, carol), quota=NO_LIMIT, now=now)
    said = refused(answer)
    assert said.reason is Reason.NO_FREE_GPU
    assert "GPU 0 is held by bob for 3 h 5 min" in said.message
    assert "GPU 1 is held by carol" in said.message
    assert "start with 0 GPUs" in said.message


def test_more_than_there_are_is_said_to_be_impossible() -> None:
    said = refused(allocate(make_request(gpus=3), gpus=TWO, leases=(), quota=NO_LIMIT, now=0))
    assert said.reason is Reason.NOT_ENOUGH_GPUS
    assert "You asked for 3 GPUs, but this workbench has 2" in said.message


@pytest.mark.parametrize(
    ("held", "asked", "most", "said"),
    [
        ((), 2, 1, "You asked for 2 GPUs and hold 0, but your quota is 1 at once: ask for 1"),
        ((GPU_0,), 1, 1, "hold 1, but your quota is 1 at once: start with 0 GPUs"),
        ((GPU_0, GPU_1), 1, 1, "start with 0 GPUs"),
    ],
)
def test_a_quota_says_asked_held_and_allowed(
    held: tuple[str, ...], asked: int, most: int, said: str
) -> None:
    leases = (make_lease(server="other", gpu_uuids=held),)
    answer = allocate(make_request(gpus=asked), gpus=TWO, leases=leases, quota=Quota(most), now=0)
    assert refused(answer).reason is Reason.OVER_QUOTA
    assert said in refused(answer).message


def test_a_sick_gpu_is_not_given() -> None:
    gpus = (make_gpu(0, GpuHealth.LOST), make_gpu(1, GpuHealth.UNKNOWN))
    said = refused(allocate(make_request(gpus=1), gpus=gpus, leases=(), quota=NO_LIMIT, now=0))
    assert "GPU 0 does not answer" in said.message


def test_a_server_whose_last_lease_is_not_closed_gets_none() -> None:
    answer = allocate(make_request("bob", 0), gpus=TWO, leases=(BOB,), quota=NO_LIMIT, now=0)
    assert refused(answer).reason is Reason.ALREADY_HELD


@given(st.integers(0, 6), st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_what_is_given_is_free_healthy_and_as_many_as_asked(
    asked: int, taken: set[int], sick: set[int]
) -> None:
    gpus = [make_gpu(i, GpuHealth.LOST if i in sick else GpuHealth.OK) for i in range(6)]
    lease = make_lease(user="bob", gpu_uuids=tuple(gpus[i].uuid for i in taken))
    answer = allocate(make_request(gpus=asked), gpus=gpus, leases=(lease,), quota=NO_LIMIT, now=0)
    usable = {gpu.uuid for i, gpu in enumerate(gpus) if i not in taken | sick}
    if isinstance(answer, Refused):
        assert len(usable) < asked
    else:
        assert len(answer) == len(set(answer)) == asked
        assert set(answer) <= usable
