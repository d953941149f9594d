"""simulate.py: what it makes, and the sentence when it cannot."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nvitop import Device, MigDevice

from simulation import simulate
from simulation.host import SOURCES, SimulatedHost

UUID = "GPU-51a0c0de-0000-4000-8000-000000000000"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with two GPUs in ``gpus/`` and their specification in ``cdi.json``."""
    (tmp_path / "library.so").write_bytes(b"")
    simulate.create(2, tmp_path / "gpus", tmp_path / "library.so", tmp_path / "cdi.json")
    return tmp_path


def create_again(made: Path, gpus: int = 2, **options: Any) -> list[str]:
    return simulate.create(gpus, made / "gpus", made / "library.so", made / "cdi.json", **options)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(SOURCES / "simulate.py"), *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_specification_mounts_one_directory_per_gpu(made: Path) -> None:
    specification = json.loads((made / "cdi.json").read_text())
    options = ["ro", "nosuid", "nodev", "rbind"]
    assert specification["kind"] == "nvidia.com/gpu"
    assert specification["containerEdits"]["mounts"] == [
        {
            "hostPath": str(made / "library.so"),
            "containerPath": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
            "options": options,
        }
    ]
    devices = {
        device["name"]: [mount["hostPath"] for mount in device["containerEdits"]["mounts"]]
        for device in specification["devices"]
    }
    first, second = (str(made / "gpus" / f"{UUID[:-1]}{number}") for number in (0, 1))
    assert devices == {UUID: [first], f"{UUID[:-1]}1": [second], "all": [first, second]}
    (mount,) = specification["devices"][0]["containerEdits"]["mounts"]
    assert mount["containerPath"] == f"/run/simulated-gpus/{UUID}"
    assert mount["options"] == options


def test_making_them_again_changes_nothing(made: Path) -> None:
    simulate.change(UUID, ["temperature_celsius=88"], made / "gpus")
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    assert create_again(made) == [UUID, f"{UUID[:-1]}1"]
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()} == before


def test_another_number_changes_the_specification_only(made: Path) -> None:
    create_again(made, 3)
    assert len(json.loads((made / "cdi.json").read_text())["devices"]) == 4
    create_again(made, 1)
    assert len(json.loads((made / "cdi.json").read_text())["devices"]) == 2
    assert len(list((made / "gpus").iterdir())) == 3


def devices_of(made: Path) -> dict[str, list[str]]:
    """The mounts of each device of the CDI specification, by its name."""
    specification = json.loads((made / "cdi.json").read_text())
    return {
        device["name"]: [Path(m["hostPath"]).name for m in device["containerEdits"]["mounts"]]
        for device in specification["devices"]
    }


def test_a_divided_gpu_is_its_instances_each_mounted_with_it(made: Path) -> None:
    leaves = create_again(made, mig={1: ["1g.10gb", "3g.40gb"]})
    other = f"{UUID[:-1]}1"
    small, large = (simulate.mig_uuid(1, i, p) for i, p in enumerate(["1g.10gb", "3g.40gb"]))
    assert leaves == [UUID, small, large]
    assert devices_of(made) == {
        UUID: [UUID],
        small: [other, small],
        large: [other, large],
        "all": [UUID, other, small, large],
    }
    assert all(Device.UUID_PATTERN.match(uuid) for uuid in leaves)
    assert ("memory_total_bytes", str(40 * 2**30)) in simulate.read_pairs(
        made / "gpus" / large / "state"
    )


def test_a_division_is_kept_until_another_is_requested(made: Path) -> None:
    before = create_again(made, mig={0: ["1g.10gb"] * 7})
    simulate.change(before[3], ["memory_used_bytes=5"], made / "gpus")
    assert create_again(made) == before
    assert create_again(made, mig={0: ["1g.10gb"] * 7}) == before
    assert "memory_used_bytes=5\n" in (made / "gpus" / before[3] / "state").read_text()
    after = create_again(made, mig={0: ["2g.20gb"]})
    assert not set(after[:-1]) & set(before)
    assert sorted(path.name for path in (made / "gpus").glob("MIG-*")) == after[:-1]
    simulate.change(UUID, ["mig_mode=disabled"], made / "gpus")
    assert create_again(made) == [UUID, f"{UUID[:-1]}1"]


def test_places_are_given_to_the_gpus_in_turn(made: Path) -> None:
    create_again(made, 3, numa=[0, 1], nvlink=[4, 4, 4])
    states = [simulate.read_pairs(made / "gpus" / f"{UUID[:-1]}{n}" / "state") for n in range(3)]
    assert [dict(state).get("numa_node") for state in states] == ["0", "1", None]
    assert [dict(state).get("nvlink_group") for state in states] == ["4", "4", "4"]


def test_the_command_divides_and_joins(made: Path) -> None:
    done = run(
        *("create", "--gpus", "2", "--library", str(made / "library.so")),
        *("--cdi", str(made / "more.json"), "--dir", str(made / "more")),
        *("--mig", "0=3g.40gb:1,1g.10gb:4", "--mig", "1=1g.10gb:2"),
        *("--numa", "0,1", "--nvlink", "0,0"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    host = SimulatedHost(made / "more")
    with host.opened():
        assert [mig.uuid() for mig in MigDevice.all()] == done.stdout.split()
        assert [len(gpu.mig_devices()) for gpu in Device.all()] == [5, 2]
    changed = run("set", done.stdout.split()[0], "process=1:2", "--dir", str(host.folder))
    assert (changed.returncode, changed.stderr) == (0, "")


def test_instances_do_not_share_uuids(made: Path) -> None:
    mine, yours = create_again(made), create_again(made, instance="tests")
    assert not set(mine) & set(yours)
    assert all(Device.UUID_PATTERN.match(uuid) for uuid in mine + yours)


def test_every_user_can_read_what_is_made(tmp_path: Path) -> None:
    (tmp_path / "library.so").write_bytes(b"")
    umask = os.umask(0o077)
    try:
        simulate.create(1, tmp_path / "gpus", tmp_path / "library.so", tmp_path / "cdi.json")
        simulate.change(UUID, ["temperature_celsius=88"], tmp_path / "gpus")
    finally:
        os.umask(umask)
    directory = tmp_path / "gpus" / UUID
    assert directory.stat().st_mode & 0o777 == 0o755
    assert [path.stat().st_mode & 0o777 for path in directory.iterdir()] == [0o644]


def test_a_new_gpu_states_that_it_is_simulated(made: Path) -> None:
    host = SimulatedHost(made / "gpus")
    with host.opened():
        assert [gpu.name() for gpu in Device.all()] == ["NVIDIA A100-SXM4-80GB (simulated)"] * 2


def test_set_keeps_what_it_does_not_name(made: Path) -> None:
    simulate.change(UUID, ["process=1:10", "process=2:20", "health=lost"], made / "gpus")
    simulate.change(UUID, ["health=ok", "power_milliwatts=unsupported"], made / "gpus")
    lines = (made / "gpus" / UUID / "state").read_text().splitlines()
    assert {"process=1:10", "process=2:20", "health=ok", "memory_used_bytes=12884901888"} <= {
        *lines
    }
    assert "health=lost" not in lines
    simulate.change(UUID, ["process=none"], made / "gpus")
    assert "process" not in (made / "gpus" / UUID / "state").read_text()


def test_the_library_knows_the_same_keys() -> None:
    table = re.findall(r'\{"(\w+)", ', (SOURCES / "state.c").read_text())
    apart = re.findall(r'strcmp\(line, "(\w+)"\)', (SOURCES / "state.c").read_text())
    assert sorted(table + apart) == sorted(simulate.FORMATS)


@pytest.mark.parametrize(
    "key", [key for key, form in simulate.FORMATS.items() if simulate.UNSUPPORTED in form]
)
def test_the_library_takes_unsupported_where_set_does(tmp_path: Path, key: str) -> None:
    host = SimulatedHost(tmp_path / "gpus")
    uuid = host.add(0, temperature_celsius=40)
    with host.opened():
        device = Device(0)
        host.set(uuid, **{"sm_clock_mhz": 777, key: simulate.UNSUPPORTED})
        clock = device.sm_clock()
        assert (clock == "N/A") if key == "sm_clock_mhz" else (clock == 777)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "arguments are required"),
        ("create --gpus 0 --library {made}/library.so --cdi {made}/cdi.json", "from 1 to 16"),
        ("create --gpus 17 --library {made}/library.so --cdi {made}/cdi.json", "from 1 to 16"),
        ("create --gpus two --library {made}/library.so --cdi {made}/cdi.json", "invalid int"),
        ("create --gpus 2 --library {made}/none.so --cdi {made}/cdi.json", "build it first"),
        (
            "create --gpus 2 --library {made}/library.so --cdi {made}/cdi.json --wave-seconds -1",
            "no value for wave_seconds",
        ),
        (
            "create --gpus 2 --library {made}/library.so --cdi {made}/cdi.json/x --dir {made}/gpus",
            "cdi.json: File exists",
        ),
        (
            "create --gpus 2 --library {made}/library.so --cdi {made}/cdi.json --mig 2=1g.10gb:1",
            "no GPU 2 to divide; they are 0 to 1",
        ),
        (
            "create --gpus 2 --library {made}/library.so --cdi {made}/cdi.json --mig 0=1g.10gb:8",
            "would have 8 MIG instances",
        ),
        (
            "create --gpus 2 --library {made}/library.so --cdi {made}/cdi.json --mig 0=large:1",
            '"large" is no value for profile',
        ),
        (
            "create --gpus 2 --library {made}/library.so --cdi {made}/cdi.json --mig 1g.10gb:7",
            "argument --mig: invalid",
        ),
        (
            "create --gpus 2 --library {made}/library.so --cdi {made}/cdi.json --numa 0,0,1",
            "numa_node has 3 numbers for 2 GPUs",
        ),
        (
            "create --gpus 2 --library {made}/library.so --cdi {made}/cdi.json --nvlink 0,x",
            "argument --nvlink: invalid",
        ),
        ("set GPU-00 health=ok --dir {made}/gpus", "no simulated GPU GPU-00"),
        ("set ../gpus health=ok --dir {made}/gpus", "no simulated GPU"),
        (f"set {UUID} --dir {{made}}/gpus", "arguments are required"),
        (f"set {UUID} warmth=3 --dir {{made}}/gpus", "is not key=value"),
        (f"set {UUID} temperature_celsius --dir {{made}}/gpus", "is not key=value"),
        (f"set {UUID} temperature_celsius=NaN --dir {{made}}/gpus", "no value for temperature"),
        (f"set {UUID} temperature_celsius=-4 --dir {{made}}/gpus", "no value for temperature"),
        (f"set {UUID} index=unsupported --dir {{made}}/gpus", "no value for index"),
        (f"set {UUID} health=ok health=lost --dir {{made}}/gpus", "given twice"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(
    made: Path, words: str, sentence: str
) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    done = run(*words.format(made=made).split())
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_the_command_makes_and_changes(made: Path) -> None:
    where = ("--dir", str(made / "more"))
    library = ("--library", str(made / "library.so"))
    done = run("create", "--gpus", "1", *library, "--cdi", str(made / "more.json"), *where)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{UUID}\n", "")
    assert run("set", UUID, "temperature_celsius=91", *where).returncode == 0
    assert "temperature_celsius=91\n" in (made / "more" / UUID / "state").read_text()
