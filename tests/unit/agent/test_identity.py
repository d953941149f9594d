"""The topology of a GPU: its NUMA node and the GPUs that NVLinks join it to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from nvitop import Device, libnvml

from simulation.host import SimulatedHost
from spawner.agent.identity import _group_by_nvlink, identify_gpus
from spawner.agent.nvml import Nvml


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path / "gpus")


def test_numa_nodes_and_nvlink_groups_are_reported(host: SimulatedHost) -> None:
    places: Sequence[dict[str, object]] = (
        {},
        {"numa_node": 0, "nvlink_group": 7},
        {"numa_node": 3, "nvlink_group": 5},
        {"numa_node": 0, "nvlink_group": 7},
        {"numa_node": 63, "nvlink_group": 5},
        {"nvlink_group": 1},
    )
    for number, place in enumerate(places):
        host.add(number, **place)
    with host.opened():
        gpus = Nvml().report().gpus
    assert [gpu.numa_node for gpu in gpus] == [None, 0, 3, 0, 63, None]
    assert [gpu.nvlink_group for gpu in gpus] == [None, 1, 2, 1, 2, None]


def test_a_place_is_requested_once(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    query = libnvml.nvmlQuery

    def count(call: str, *arguments: Any, **options: Any) -> Any:
        asked.append(call)
        return query(call, *arguments, **options)

    host.add(0, nvlink_group=0)
    host.add(1, nvlink_group=0)
    with host.opened():
        nvml = Nvml()
        nvml.report()
        monkeypatch.setattr(libnvml, "nvmlQuery", count)
        nvml.report()
    assert "nvmlDeviceGetTemperature" in asked
    assert {"nvmlDeviceGetMemoryAffinity", "nvmlDeviceGetP2PStatus"}.isdisjoint(asked)


@pytest.mark.parametrize("words", [[0b11], [0]])
def test_next_to_several_nodes_or_none_is_unknown(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, words: list[int]
) -> None:
    query = libnvml.nvmlQuery

    def answer(call: str, *arguments: Any, **options: Any) -> Any:
        if call == "nvmlDeviceGetMemoryAffinity":
            return words
        return query(call, *arguments, **options)

    host.add(0, numa_node=1)
    with host.opened():
        assert Nvml().report().gpus[0].numa_node == 1
        monkeypatch.setattr(libnvml, "nvmlQuery", answer)
        assert Nvml().report().gpus[0].numa_node is None


class Linked:
    """A GPU of a host whose links are a set of pairs."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.handle = self


@pytest.mark.parametrize(
    ("links", "groups"),
    [
        (set(), {}),
        ({(0, 1)}, {0: 0, 1: 0}),
        ({(2, 3), (0, 1)}, {0: 0, 1: 0, 2: 2, 3: 2}),
        ({(1, 3), (3, 2)}, {1: 1, 2: 1, 3: 1}),
        ({(0, 3), (1, 2), (2, 3)}, {0: 0, 1: 0, 2: 0, 3: 0}),
    ],
)
def test_a_group_is_whom_links_join_even_over_others(
    monkeypatch: pytest.MonkeyPatch, links: set[tuple[int, int]], groups: dict[int, int]
) -> None:
    def status(_: str, one: Linked, other: Linked, *__: object, **___: object) -> int:
        is_linked = (one.index, other.index) in links or (other.index, one.index) in links
        return int(
            libnvml.NVML_P2P_STATUS_OK if is_linked else libnvml.NVML_P2P_STATUS_NOT_SUPPORTED
        )

    monkeypatch.setattr(libnvml, "nvmlQuery", status)
    gpus: Any = [Linked(index) for index in range(4)]
    assert _group_by_nvlink(gpus) == groups


def test_a_lost_neighbour_is_joined_to_no_one(host: SimulatedHost) -> None:
    for number in range(3):
        host.add(number, nvlink_group=0)
    host.set("GPU-51a0c0de-0000-4000-8000-000000000000", health="lost")
    with host.opened():
        gpus = Nvml().report().gpus
    assert [(gpu.index, gpu.nvlink_group) for gpu in gpus] == [(1, 1), (2, 1)]


def test_a_gpu_that_is_lost_while_it_is_read_holds_up_no_one(host: SimulatedHost) -> None:
    for number in range(3):
        host.add(number, nvlink_group=0)
    with host.opened():
        devices = Device.all()
        assert {device.uuid() for device in devices}  # said before it was lost
        host.set("GPU-51a0c0de-0000-4000-8000-000000000001", health="lost")
        found = list(identify_gpus(devices))
    assert [(gpu.identity.index, gpu.identity.nvlink_group) for gpu in found] == [(0, 0), (2, 0)]
