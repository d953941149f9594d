"""The simulated Xid events and places, asked as NVML is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nvitop import Device, libnvml

from simulation.host import SimulatedHost
from simulation.simulate import gpu_uuid

XID = libnvml.nvmlEventTypeXidCriticalError
FIRST, SECOND = gpu_uuid(0), gpu_uuid(1)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHost]:
    host = SimulatedHost(tmp_path / "gpus")
    host.add(0, numa_node=5, nvlink_group=3)
    host.add(1, nvlink_group=3)
    host.add(2)
    with host.opened():
        yield host


def listening(*numbers: int) -> Any:
    events = libnvml.nvmlEventSetCreate()
    for number in numbers:
        libnvml.nvmlDeviceRegisterEvents(Device(number).handle, XID, events)
    return events


def is_silent(events: Any) -> bool:
    with pytest.raises(libnvml.NVMLError_Timeout):
        libnvml.nvmlEventSetWait_v2(events, 50)
    return True


def test_an_xid_is_reported_once_each_time_it_changes(host: SimulatedHost) -> None:
    events = listening(0, 1)
    assert is_silent(events)
    for number in (79, 48, 79):
        host.set(SECOND, xid=number)
        event = libnvml.nvmlEventSetWait_v2(events, 30_000)
        assert (event.eventType, event.eventData) == (XID, number)
        assert libnvml.nvmlDeviceGetUUID(event.device) == SECOND
        assert is_silent(events)
    host.set(SECOND, xid=0)
    assert is_silent(events)


def test_what_was_before_is_not_reported(host: SimulatedHost) -> None:
    host.set(FIRST, xid=79)
    events = listening(0)
    host.set(SECOND, xid=48)
    assert is_silent(events), "the first was before, the second is of nobody that was registered"


def test_two_sets_both_receive_it(host: SimulatedHost) -> None:
    one, other = listening(0), listening(0)
    host.set(FIRST, xid=79)
    for events in (one, other):
        assert libnvml.nvmlEventSetWait_v2(events, 30_000).eventData == 79


def test_the_loss_of_a_gpu_is_an_event(host: SimulatedHost) -> None:
    events = listening(0)
    host.set(FIRST, xid=79, health="lost")
    assert libnvml.nvmlEventSetWait_v2(events, 30_000).eventData == 79


def test_a_gpu_may_have_no_events(host: SimulatedHost) -> None:
    assert libnvml.nvmlDeviceGetSupportedEventTypes(Device(0).handle) == XID
    host.set(FIRST, xid="unsupported")
    assert libnvml.nvmlDeviceGetSupportedEventTypes(Device(0).handle) == 0
    with pytest.raises(libnvml.NVMLError_NotSupported):
        listening(0)


def test_only_xids_can_be_listened_to(host: SimulatedHost) -> None:
    events = libnvml.nvmlEventSetCreate()
    for types in (0, XID | libnvml.nvmlEventTypeClock):
        with pytest.raises(libnvml.NVMLError_NotSupported):
            libnvml.nvmlDeviceRegisterEvents(Device(0).handle, types, events)


def test_a_wait_ends_when_the_library_is_closed(tmp_path: Path) -> None:
    host = SimulatedHost(tmp_path / "gpus")
    host.add(0)
    with host.opened():
        events = listening(0)
    with pytest.raises(libnvml.NVMLError_Uninitialized):
        libnvml.nvmlEventSetWait_v2(events, 30_000)


def test_a_numa_node_is_a_bit(host: SimulatedHost) -> None:
    handles = [device.handle for device in Device.all()]
    assert list(libnvml.nvmlDeviceGetMemoryAffinity(handles[0], 2, 0)) == [1 << 5, 0]
    host.set(FIRST, numa_node=70)
    assert list(libnvml.nvmlDeviceGetMemoryAffinity(handles[0], 2, 0)) == [0, 1 << 6]
    with pytest.raises(libnvml.NVMLError_InsufficientSize):
        libnvml.nvmlDeviceGetMemoryAffinity(handles[0], 1, 0)
    with pytest.raises(libnvml.NVMLError_NotSupported):
        libnvml.nvmlDeviceGetMemoryAffinity(handles[1], 1, 0)


def test_gpus_of_one_group_are_joined(host: SimulatedHost) -> None:
    first, second, third = (device.handle for device in Device.all())

    def topology(one: Any, other: Any, caps: int = libnvml.NVML_P2P_CAPS_INDEX_NVLINK) -> int:
        return int(libnvml.nvmlDeviceGetP2PStatus(one, other, caps))

    assert topology(first, second) == topology(second, first) == libnvml.NVML_P2P_STATUS_OK
    assert topology(first, third) == topology(third, third) == libnvml.NVML_P2P_STATUS_NOT_SUPPORTED
    assert (
        topology(first, second, libnvml.NVML_P2P_CAPS_INDEX_ATOMICS) != libnvml.NVML_P2P_STATUS_OK
    )
    host.set(SECOND, health="lost")
    with pytest.raises(libnvml.NVMLError_GpuIsLost):
        topology(first, second)
