"""Every container is hardened, and nothing but the lease and the limits shapes it."""

from typing import Any

import pytest

from spawner.model import Account, StartMode
from spawner.policy.container import (
    MAX_TERMINALS,
    ContainerLimits,
    build_home_preparation,
    build_server,
    default_cpus,
)
from testing.factories import GPU_0, GPU_1, make_account, make_lease

LIMITS = ContainerLimits(memory_bytes=2**30, cpus=1.5, pids=100, shm_bytes=2**20)


def build(limits: ContainerLimits = LIMITS, **changes: Any) -> dict[str, Any]:
    lease = make_lease(**changes)
    return build_server(
        lease,
        make_account(lease),
        instance="workbench",
        image_id="sha256:1",
        limits=limits,
        environment={"JUPYTERHUB_API_TOKEN": "t", "NVIDIA_VISIBLE_DEVICES": "all"},
    )


def test_a_server_is_hardened() -> None:
    body = build()
    host = body["HostConfig"]
    assert body["User"] == "20001:20001"
    assert host["CapDrop"] == ["ALL"]
    assert "CapAdd" not in host
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == host["MemorySwap"] == 2**30
    assert host["NanoCpus"] == 1_500_000_000
    assert (host["PidsLimit"], host["ShmSize"], host["Init"]) == (100, 2**20, True)
    assert host["NetworkMode"] == "workbench-users"
    assert host["RestartPolicy"] == {"Name": "no"}
    assert "exec" in host["Tmpfs"]["/tmp"].split(",")
    assert "Privileged" not in host


def test_a_server_has_a_bounded_number_of_terminals() -> None:
    home, terminals = build()["HostConfig"]["Mounts"]
    assert home["Target"] == "/home/researcher"
    assert (terminals["Target"], "Source" in terminals) == ("/dev/pts", False)
    options = terminals["VolumeOptions"]["DriverConfig"]["Options"]
    assert f"max={MAX_TERMINALS}" in options["o"].split(",")
    assert 0 < MAX_TERMINALS <= 300


def test_a_server_without_dns_asks_its_own_loopback_where_nothing_answers() -> None:
    """Docker asks a loopback server of the host's resolv.conf from the host, past every wall."""
    assert "Dns" not in build()["HostConfig"]
    closed = ContainerLimits(2**30, 1.5, 100, 2**20, has_dns=False)
    assert build(closed)["HostConfig"]["Dns"] == ["127.0.0.1"]


def test_gpus_come_by_uuid_through_cdi() -> None:
    requests = build(gpu_uuids=(GPU_0, GPU_1))["HostConfig"]["DeviceRequests"]
    devices = [f"nvidia.com/gpu={GPU_0}", f"nvidia.com/gpu={GPU_1}"]
    assert requests == [{"Driver": "cdi", "DeviceIDs": devices}]


def test_a_server_without_gpus_gets_none_whatever_the_environment_states() -> None:
    body = build()
    assert "DeviceRequests" not in body["HostConfig"]
    assert "NVIDIA_VISIBLE_DEVICES=void" in body["Env"]
    assert sum(entry.startswith("NVIDIA_VISIBLE_DEVICES") for entry in body["Env"]) == 1


@pytest.mark.parametrize(
    ("start_mode", "variables"),
    [
        (StartMode.NORMAL, set()),
        (StartMode.WITHOUT_PACKAGES, {"WB_PACKAGES="}),
        (StartMode.REPAIR, {"WB_PACKAGES=", "WB_REPAIR=1"}),
    ],
)
def test_a_start_mode_is_a_variable_of_the_image(
    start_mode: StartMode, variables: set[str]
) -> None:
    env = build(start_mode=start_mode)["Env"]
    assert {entry for entry in env if entry.startswith("WB_")} == variables


@pytest.mark.parametrize(
    ("host_cpus", "expected"), [(1, 1.0), (2, 2.0), (4, 3.0), (8, 7.0), (128, 112.0)]
)
def test_a_server_leaves_an_eighth_of_the_host_to_the_services(
    host_cpus: int, expected: float
) -> None:
    assert default_cpus(host_cpus) == expected


@pytest.mark.parametrize(("gpus", "threads"), [((), 7), ((GPU_0,), 7), ((GPU_0, GPU_1), 3)])
def test_libraries_start_as_many_threads_as_may_run(gpus: tuple[str, ...], threads: int) -> None:
    body = build(ContainerLimits(2**30, 7.5, 100, 2**20), gpu_uuids=gpus)
    assert f"OMP_NUM_THREADS={threads}" in body["Env"]
    assert {"MEM_LIMIT=1073741824", "CPU_LIMIT=7.5"} <= {*body["Env"]}
    assert body["HostConfig"]["CpuShares"] == 1024 * max(1, len(gpus))


def test_a_server_writes_in_its_home_and_in_bounded_memory_only() -> None:
    host = build()["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert set(host["Tmpfs"]) == {"/tmp", "/var/tmp", "/var/lib/extrausers"}
    for options in host["Tmpfs"].values():
        assert {"nosuid", "nodev"} < set(options.split(","))
        assert "size=" in options
    assert host["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]


def test_the_lease_is_in_labels_and_mount() -> None:
    body = build(user="Zoë", gpu_uuids=(GPU_0,))
    assert body["Labels"]["workbench.lease"] == "0123456789abcdef"
    assert body["Labels"]["workbench.gpus"] == GPU_0
    assert body["Labels"]["workbench.user"] == "Zoë"
    mount, _ = body["HostConfig"]["Mounts"]
    assert (mount["Source"], mount["Target"]) == ("workbench-home-zoe-20001", "/home/researcher")
    assert "USER=zoe" in body["Env"]


@pytest.mark.parametrize("user", ["a=b", "x\ny", "$(reboot)", "'; rm -rf /", "--privileged"])
def test_a_hostile_name_reaches_labels_only(user: str) -> None:
    body = build(user=user)
    assert body["Labels"].pop("workbench.user") == user
    assert body["HostConfig"]["Mounts"][0]["VolumeOptions"]["Labels"].pop("workbench.user") == user
    assert user not in str(body)


def test_the_home_is_prepared_by_root_that_can_do_nothing_else() -> None:
    body = build_home_preparation(
        Account(20001, "alice", is_home_prepared=False), instance="workbench", image_id="sha256:1"
    )
    host = body["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == ["CHOWN", "DAC_OVERRIDE", "FOWNER"]
    assert [mount["Source"] for mount in host["Mounts"]] == ["workbench-home-alice-20001"]
    # root: no program of the home may replace find or chown
    assert body["Env"] == ["OWNER=20001", "PATH=/usr/bin:/bin"]
