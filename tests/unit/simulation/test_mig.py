"""The simulated MIG instances, seen through the real nvitop."""

import shutil
from pathlib import Path

import pytest
from nvitop import NA, Device, MigDevice, libnvml

from simulation.host import SimulatedHost
from simulation.simulate import gpu_uuid

GIB = 2**30
GPU = gpu_uuid(0)


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    host = SimulatedHost(tmp_path / "gpus")
    host.add(0, temperature_celsius=40, utilization_percent=50)
    return host


def test_instances_are_those_of_their_gpu_in_order(host: SimulatedHost) -> None:
    uuids = host.divide(0, "1g.10gb", "3g.40gb", "1g.10gb")
    host.add(1)
    with host.opened():
        assert Device.count() == 2
        divided, whole = Device.all()
        assert [mig.uuid() for mig in divided.mig_devices()] == uuids
        assert divided.to_leaf_devices() == divided.mig_devices()
        assert whole.to_leaf_devices() == [whole]
        assert [mig.index for mig in MigDevice.all()] == [(0, 0), (0, 1), (0, 2)]
        assert [mig.gpu_instance_id() for mig in MigDevice.all()] == [7, 8, 9]
        assert {mig.compute_instance_id() for mig in MigDevice.all()} == {0}
        assert [mig.memory_total() for mig in MigDevice.all()] == [10 * GIB, 40 * GIB, 10 * GIB]


def test_an_instance_is_found_by_its_uuid(host: SimulatedHost) -> None:
    _, uuid = host.divide(0, "1g.10gb", "1g.10gb")
    with host.opened():
        found = Device(uuid=uuid)
        assert isinstance(found, MigDevice)
        assert (found.index, found.parent.uuid()) == ((0, 1), GPU)
        assert found.is_mig_device()
        with pytest.raises(libnvml.NVMLError_NotFound):
            Device(uuid=uuid[:-1] + "9")


@pytest.mark.parametrize(
    ("name", "of_instance"),
    [
        ("NVIDIA Test (simulated)", "NVIDIA Test MIG 2g.20gb (simulated)"),
        ("NVIDIA Test", "NVIDIA Test MIG 2g.20gb"),
    ],
)
def test_its_name_has_the_profile_and_simulated_last(
    host: SimulatedHost, name: str, of_instance: str
) -> None:
    host.set(GPU, name=name)
    host.divide(0, "2g.20gb")
    with host.opened():
        assert Device(0).name() == name
        assert Device((0, 0)).name() == of_instance


def test_it_answers_what_nvml_answers_of_an_instance_and_nothing_else(host: SimulatedHost) -> None:
    (uuid,) = host.divide(0, "1g.10gb")
    host.set(uuid, memory_used_bytes=4 * GIB, process="12:34")
    with host.opened():
        instance = Device((0, 0))
        assert instance.memory_used() == 4 * GIB
        (process,) = instance.processes().values()
        assert (process.pid, process.gpu_memory(), process.gpu_instance_id()) == (12, 34, 7)
        assert Device(0).processes() == {}
        for call in ("temperature", "gpu_utilization", "power_usage", "sm_clock", "mig_mode"):
            assert getattr(instance, call)() == NA, call
        assert Device(0).temperature() == 40
        assert Device(0).gpu_utilization() == NA
        assert libnvml.UNKNOWN_FUNCTIONS == {}


def test_a_container_sees_the_instances_that_it_has(host: SimulatedHost, tmp_path: Path) -> None:
    _, second, _ = host.divide(0, "1g.10gb", "2g.20gb", "1g.10gb")
    inside = SimulatedHost(tmp_path / "inside")
    for uuid in (GPU, second):  # as the CDI specification mounts them
        shutil.copytree(host.folder / uuid, inside.folder / uuid)
    with inside.opened():
        (gpu,) = Device.all()
        assert [mig.uuid() for mig in gpu.to_leaf_devices()] == [second]


def test_an_instance_without_its_gpu_does_not_exist(host: SimulatedHost, tmp_path: Path) -> None:
    (uuid,) = host.divide(0, "1g.10gb")
    inside = SimulatedHost(tmp_path / "inside")
    shutil.copytree(host.folder / uuid, inside.folder / uuid)
    with inside.opened():
        assert Device.count() == 0
        with pytest.raises(libnvml.NVMLError):
            Device(uuid=uuid)


def test_without_mig_mode_there_is_no_instance(host: SimulatedHost) -> None:
    host.divide(0, "1g.10gb")
    host.set(GPU, mig_mode="disabled")
    with host.opened():
        assert Device(0).mig_devices() == []
        with pytest.raises(libnvml.NVMLError_NotFound):
            Device((0, 0))


def test_an_instance_of_a_lost_gpu_is_lost_and_a_removed_one_is_not_found(
    host: SimulatedHost,
) -> None:
    uuid, other = host.divide(0, "1g.10gb", "1g.10gb")
    with host.opened():
        first, second = Device(0).mig_devices()
        host.set(GPU, health="lost")
        for call in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetName", "nvmlDeviceGetTemperature"):
            more = (0,) if call.endswith("Temperature") else ()
            with pytest.raises(libnvml.NVMLError_GpuIsLost):
                libnvml.nvmlQuery(call, first.handle, *more, ignore_errors=False)
        host.set(GPU, health="ok")
        shutil.rmtree(host.folder / uuid)
        with pytest.raises(libnvml.NVMLError_NotFound):
            libnvml.nvmlQuery("nvmlDeviceGetMemoryInfo", first.handle, ignore_errors=False)
        assert second.uuid() == other
        assert second.memory_total() == 10 * GIB
