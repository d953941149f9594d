"""Claims: rows of the ledger and labels are recognised as false by their form."""

import pytest

from spawner.policy.claims import explain_false_lease, is_account_uid, is_gpu_uuid
from spawner.policy.uids import HUB_UID, LAST_ACCOUNT_UID
from testing.factories import GPU_0, GPU_1, make_lease


def test_only_uuids_name_a_gpu() -> None:
    for uuid in (GPU_0, GPU_1, "MIG" + GPU_0.removeprefix("GPU")):
        assert is_gpu_uuid(uuid)
    for text in (
        "all",
        "0",
        "",
        "GPU-0",
        "/dev/nvidia0",
        GPU_0 + ",all",
        GPU_0 + "\n",
        GPU_0.upper(),
    ):
        assert not is_gpu_uuid(text)


def test_accounts_have_uids_between_the_hosts_and_the_services() -> None:
    assert is_account_uid(20000, 20000)
    assert is_account_uid(LAST_ACCOUNT_UID, 20000)
    for uid in (-1, 0, 1000, 20000 - 1, HUB_UID):
        assert not is_account_uid(uid, 20000)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../x"},
        {"uid": 0},
        {"gpu_uuids": ("all",)},
        {"gpu_uuids": (GPU_0, GPU_0)},
        {"gpu_uuids": (GPU_0, GPU_1), "gpu_count": 1},
    ],
    ids=str,
)
def test_a_false_lease_is_explained(changes: dict[str, object]) -> None:
    assert explain_false_lease(make_lease(gpu_uuids=(GPU_0,)), 20000) is None
    assert explain_false_lease(make_lease(**changes), 20000) is not None
