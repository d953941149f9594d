"""The simulated NVML, seen through the real nvitop."""

import ctypes
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
from nvitop import NA, Device, libnvml

from simulation.host import SimulatedHost, build_library
from testing.eventually import eventually_sync
from testing.paths import ROOT

VALUES = {
    "name": "NVIDIA Test (simulated)",
    "memory_total_bytes": 1000,
    "memory_used_bytes": 300,
    "memory_reserved_bytes": 100,
    "bar1_memory_total_bytes": 50,
    "bar1_memory_used_bytes": 20,
    "temperature_celsius": 61,
    "utilization_percent": 71,
    "memory_utilization_percent": 72,
    "encoder_utilization_percent": 73,
    "decoder_utilization_percent": 74,
    "power_milliwatts": 123456,
    "power_limit_milliwatts": 300000,
    "graphics_clock_mhz": 1,
    "sm_clock_mhz": 2,
    "memory_clock_mhz": 3,
    "video_clock_mhz": 4,
    "max_graphics_clock_mhz": 5,
    "max_sm_clock_mhz": 6,
    "max_memory_clock_mhz": 7,
    "max_video_clock_mhz": 8,
    "fan_speed_percent": 33,
    "pcie_tx_kib_per_second": 44,
    "pcie_rx_kib_per_second": 45,
    "ecc_uncorrected_errors": 9,
    "compute_capability": "9.0",
    "mig_mode": "enabled",
}
ANSWERS = {
    "name": "NVIDIA Test (simulated)",
    "uuid": "GPU-51a0c0de-0000-4000-8000-000000000003",
    "bus_id": "00000000:04:00.0",
    "memory_info": [1000, 600, 300, 100],
    "bar1_memory_info": [50, 30, 20, "N/A"],
    "temperature": 61,
    "utilization_rates": ["N/A", "N/A", 73, 74],  # unknown for a GPU with MIG
    "power_usage": 123456,
    "power_limit": 300000,
    "clock_infos": [1, 2, 3, 4],
    "max_clock_infos": [5, 6, 7, 8],
    "fan_speed": 33,
    "pcie_throughput": [44, 45],
    "total_volatile_uncorrected_ecc_errors": 9,
    "cuda_compute_capability": [9, 0],
    "mig_mode": "Enabled",
    "max_mig_device_count": 7,
    "mig_devices": [],
    "is_mig_device": False,
    "display_active": "Disabled",
    "display_mode": "Disabled",
    "persistence_mode": "Enabled",
    "performance_state": "P0",
    "compute_mode": "Default",
    "current_driver_model": "N/A",
    "serial": "N/A",
    "nvlink_link_count": 0,
    "driver_version": "580.95.05",
    "cuda_driver_version": "13.0",
}
OF_UNSUPPORTED = {
    "temperature_celsius": "temperature",
    "utilization_percent": "gpu_utilization",
    "power_milliwatts": "power_usage",
    "power_limit_milliwatts": "power_limit",
    "sm_clock_mhz": "sm_clock",
    "max_sm_clock_mhz": "max_sm_clock",
    "fan_speed_percent": "fan_speed",
    "bar1_memory_total_bytes": "bar1_memory_total",
    "ecc_uncorrected_errors": "total_volatile_uncorrected_ecc_errors",
    "compute_capability": "cuda_compute_capability",
    "mig_mode": "mig_mode",
    "encoder_utilization_percent": "encoder_utilization",
    "pcie_tx_kib_per_second": "pcie_tx_throughput",
}


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path / "gpus")


@pytest.fixture
def gpu(host: SimulatedHost) -> Iterator[tuple[str, Device]]:
    uuid = host.add(0, temperature_celsius=40)
    with host.opened():
        yield uuid, Device(0)


def test_every_value_reaches_nvitop(host: SimulatedHost) -> None:
    host.add(3, **VALUES)
    code = f"""
import json
from nvitop import Device
device = Device(0)
print(json.dumps({{call: getattr(device, call)() for call in {list(ANSWERS)!r}}}))
"""
    assert host.run_python(code) == ANSWERS


def test_nvitop_finds_every_function_it_has(host: SimulatedHost) -> None:
    host.add(0, process="1:1000")
    code = """
import inspect, json
from nvitop import Device, libnvml
device, called = Device(0), 0
for name, method in inspect.getmembers(device, inspect.ismethod):
    needed = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty]
    if name.startswith("_") or needed or name.startswith(("from_", "all", "oneshot", "count")):
        continue
    method()
    called += 1
print(json.dumps([called, sorted(map(str, libnvml.UNKNOWN_FUNCTIONS))]))
"""
    called, unknown = host.run_python(code)
    assert called > 80
    assert unknown == []


def test_every_symbol_of_the_bindings_is_there() -> None:
    library = ctypes.CDLL(str(build_library()))
    source = Path(pynvml.__file__).read_text()
    symbols = set(re.findall(r"""_nvmlGetFunctionPointer\(\s*["'](\w+)["']""", source))
    assert len(symbols) > 300
    assert {symbol for symbol in symbols if not hasattr(library, symbol)} == set()


def test_a_call_that_is_not_simulated_is_not_supported(gpu: tuple[str, Device]) -> None:
    with pytest.raises(libnvml.NVMLError_NotSupported):
        libnvml.nvmlQuery("nvmlDeviceGetTotalEnergyConsumption", gpu[1].handle, ignore_errors=False)


def test_the_table_of_unsupported_calls_is_the_rest() -> None:
    folder = ROOT / "simulation"
    listed = re.findall(r"\((\w+)\)", (folder / "unsupported.h").read_text())
    assert listed == sorted(set(listed))


def test_gpus_are_ordered_by_index_and_numbered_from_zero(host: SimulatedHost) -> None:
    for number in (9, 3, 5):
        host.add(number)
    (host.folder / "GPU-without-a-state").mkdir()
    (host.folder / "something").mkdir()
    with host.opened():
        found = [(gpu.index, gpu.uuid()[-1], gpu.bus_id()) for gpu in Device.all()]
        assert found == [
            (0, "3", "00000000:04:00.0"),
            (1, "5", "00000000:06:00.0"),
            (2, "9", "00000000:0A:00.0"),
        ]
        last = Device(2)
        assert Device(uuid=last.uuid()) == last
        assert Device(bus_id=last.bus_id()) == last
        with pytest.raises(libnvml.NVMLError_NotFound):
            Device(uuid="GPU-51a0c0de-0000-4000-8000-000000000001")
        with pytest.raises(libnvml.NVMLError_InvalidArgument):
            Device(3)


def test_no_folder_is_no_gpu(host: SimulatedHost) -> None:
    with host.opened():
        assert Device.count() == 0


def test_absent_keys_have_plausible_values(gpu: tuple[str, Device]) -> None:
    assert gpu[1].name() == "NVIDIA A100-SXM4-80GB (simulated)"
    assert gpu[1].memory_total() == 80 * 1024**3
    assert gpu[1].power_limit() == 400_000


def test_a_rewritten_file_is_seen_at_the_next_call(
    gpu: tuple[str, Device], host: SimulatedHost
) -> None:
    for celsius in range(41, 91):
        host.set(gpu[0], temperature_celsius=celsius)
        assert gpu[1].temperature() == celsius


def test_two_writes_in_one_tick_of_the_clock_are_both_seen(
    gpu: tuple[str, Device], host: SimulatedHost
) -> None:
    state = host.folder / gpu[0] / "state"
    tick_ns = time.time_ns() + 60_000_000_000
    for celsius in range(10, 20):
        state.write_text(f"index=0\ntemperature_celsius={celsius}\n")
        os.utime(state, ns=(tick_ns, tick_ns))
        assert gpu[1].temperature() == celsius


@pytest.mark.parametrize(("key", "call"), OF_UNSUPPORTED.items())
def test_unsupported_is_not_a_number(
    gpu: tuple[str, Device], host: SimulatedHost, key: str, call: str
) -> None:
    host.set(gpu[0], **{key: "unsupported"})
    assert getattr(gpu[1], call)() == NA


def test_unsupported_memory_is_an_error(gpu: tuple[str, Device], host: SimulatedHost) -> None:
    host.set(gpu[0], memory_used_bytes="unsupported")
    with pytest.raises(libnvml.NVMLError_NotSupported):
        libnvml.nvmlQuery("nvmlDeviceGetMemoryInfo", gpu[1].handle, ignore_errors=False)


def test_a_lost_gpu_answers_nothing_and_its_neighbour_everything(
    gpu: tuple[str, Device], host: SimulatedHost
) -> None:
    other = host.add(1, temperature_celsius=50)
    libnvml.nvmlShutdown()
    libnvml.nvmlInit()
    devices = Device.all()
    host.set(gpu[0], health="lost")
    calls: dict[str, tuple[int, ...]] = {
        "nvmlDeviceGetMemoryInfo": (),
        "nvmlDeviceGetName": (),
        "nvmlDeviceGetUUID": (),
        "nvmlDeviceGetTemperature": (0,),
        "nvmlDeviceGetUtilizationRates": (),
        "nvmlDeviceGetComputeRunningProcesses": (),
        "nvmlDeviceGetMigMode": (),
        "nvmlDeviceGetTotalEnergyConsumption": (),
    }
    for call, arguments in calls.items():
        with pytest.raises(libnvml.NVMLError_GpuIsLost):
            libnvml.nvmlQuery(call, devices[0].handle, *arguments, ignore_errors=False)
    assert devices[1].temperature() == 50
    assert [device.handle is None for device in Device.all()] == [True, False]
    host.set(gpu[0], health="ok")
    assert devices[0].temperature() == 40
    assert Device(1).uuid() == other


def test_a_vanished_file_is_a_lost_gpu(gpu: tuple[str, Device], host: SimulatedHost) -> None:
    (host.folder / gpu[0] / "state").unlink()
    with pytest.raises(libnvml.NVMLError_GpuIsLost):
        libnvml.nvmlQuery("nvmlDeviceGetName", gpu[1].handle, ignore_errors=False)


GARBAGE = {
    "empty": "",
    "without index": "temperature_celsius=90\n",
    "cut off": "index=0\ntemperature_celsius=90",
    "cut in a key": "index=0\ntemperature_\n",
    "unknown key": "index=0\ntemperature=90\n",
    "text": "index=0\ntemperature_celsius=warm\n",
    "negative": "index=0\ntemperature_celsius=-1\n",
    "overflow": "index=0\ntemperature_celsius=99999999999999999999\n",
    "NaN": "index=0\npower_milliwatts=nan\n",
    "bytes": "index=0\n\0\0temperature_celsius=90\n",
    "endless": "index=0\n" + "#" * 70_000 + "\n",
    "endless name": "index=0\nname=" + "x" * 200 + "\n",
    "capability": "index=0\ncompute_capability=8\n",
    "mode": "index=0\nmig_mode=perhaps\n",
    "health": "index=0\nhealth=fine\n",
    "process": "index=0\nprocess=12\n",
    "NUMA node": "index=0\nnuma_node=-1\n",
    "Xid": "index=0\nxid=fatal\n",
    "endless profile": "index=0\nprofile=" + "1" * 40 + "\n",
    "endless parent": "index=0\nparent=GPU-" + "0" * 80 + "\n",
    "too many processes": "index=0\n" + "process=1:1\n" * 65,
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_leaves_the_last_good_values(
    gpu: tuple[str, Device], host: SimulatedHost, text: str
) -> None:
    host.write(gpu[0], text)
    assert gpu[1].temperature() == 40
    host.write(gpu[0], "index=0\n\n# fine again\ntemperature_celsius=41\n")
    assert gpu[1].temperature() == 41


def test_a_gpu_that_never_stated_anything_good_is_lost(host: SimulatedHost) -> None:
    host.write(host.add(0), "?")
    host.add(1)
    with host.opened():
        good, bad = Device.all()
        assert good.uuid().endswith("1")
        assert bad.handle is None
        host.write(host.folder.joinpath(good.uuid()[:-1] + "0").name, "index=0\n")
        assert Device(1).uuid().endswith("0")


def test_processes_have_memory_and_a_share_of_the_work(
    gpu: tuple[str, Device], host: SimulatedHost
) -> None:
    host.write(gpu[0], "index=0\nutilization_percent=60\nprocess=1:1000\nprocess=2:2000\n")
    processes = gpu[1].processes()
    found = {pid: (p.gpu_memory(), p.gpu_sm_utilization()) for pid, p in processes.items()}
    assert found == {1: (1000, 30), 2: (2000, 30)}
    host.set(gpu[0], process="none")
    assert gpu[1].processes() == {}


def test_a_wave_moves_within_its_bounds(gpu: tuple[str, Device], host: SimulatedHost) -> None:
    host.set(gpu[0], wave_seconds=1, utilization_percent=95, power_milliwatts=100_000)
    seen: set[tuple[Any, ...]] = set()

    def has_moved() -> bool:
        seen.add((gpu[1].temperature(), gpu[1].gpu_utilization(), gpu[1].power_usage()))
        return len(seen) >= 20

    eventually_sync(has_moved, "the readings move", seconds=10)
    for celsius, percent, milliwatts in seen:
        assert 36 <= celsius <= 44
        assert 75 <= percent <= 100
        assert 85_000 <= milliwatts <= 115_000


def test_threads_see_whole_states_only(gpu: tuple[str, Device], host: SimulatedHost) -> None:
    wrong: list[object] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            info = libnvml.nvmlQuery("nvmlDeviceGetMemoryInfo", gpu[1].handle, ignore_errors=False)
            if info.total != 2 * info.used:
                wrong.append((info.total, info.used))

    host.set(gpu[0], memory_total_bytes=2, memory_used_bytes=1)
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for used in range(1, 200):
        host.set(gpu[0], memory_total_bytes=2 * used, memory_used_bytes=used)
    is_over.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_calls_before_init_are_refused(host: SimulatedHost) -> None:
    host.add(0)
    with host.opened():
        handle = Device(0).handle
    library = ctypes.CDLL(str(build_library()))
    assert library.nvmlDeviceGetDisplayMode(handle, ctypes.byref(ctypes.c_uint())) == 1
    library.nvmlErrorString.restype = ctypes.c_char_p
    assert library.nvmlErrorString(15) == b"GPU is lost"
