#!/usr/bin/env python3
"""Makes simulated GPUs, divides them into MIG instances and rewrites what they say.

``set UUID health=lost`` loses a GPU, and ``set UUID xid=79`` lets its driver report a failure. Files only ever
change whole (a rename), so that a reader sees the old one or the new one.
Standard library only: it runs on a bare host.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

DEFAULT_DIRECTORY = Path("/run/simulated-gpus")
DEFAULT_INSTANCE = "workbench"
MAX_GPUS = 16
MAX_INSTANCES = 7
LIBRARY_IN_CONTAINER = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
UNSUPPORTED = "unsupported"

NUMBERS = (
    "memory_total_bytes", "memory_used_bytes", "memory_reserved_bytes",
    "bar1_memory_total_bytes", "bar1_memory_used_bytes",
    "temperature_celsius",
    "utilization_percent", "memory_utilization_percent",
    "encoder_utilization_percent", "decoder_utilization_percent",
    "power_milliwatts", "power_limit_milliwatts",
    "graphics_clock_mhz", "sm_clock_mhz", "memory_clock_mhz", "video_clock_mhz",
    "max_graphics_clock_mhz", "max_sm_clock_mhz", "max_memory_clock_mhz", "max_video_clock_mhz",
    "fan_speed_percent",
    "pcie_tx_kib_per_second", "pcie_rx_kib_per_second",
    "ecc_uncorrected_errors",
)  # fmt: skip
FORMATS = {
    **dict.fromkeys(NUMBERS, rf"[0-9]{{1,18}}|{UNSUPPORTED}"),
    "xid": rf"[0-9]{{1,4}}|{UNSUPPORTED}",
    "numa_node": rf"[0-9]{{1,2}}|{UNSUPPORTED}",
    "nvlink_group": rf"[0-9]{{1,2}}|{UNSUPPORTED}",
    "parent": r"GPU-[0-9a-f-]{1,75}",
    "profile": r"[1-7]g\.[0-9]{1,3}gb",
    "index": r"[0-9]{1,2}",
    "wave_seconds": r"[0-9]{1,5}",
    "name": r"[ -~]{1,95}",
    "health": r"ok|lost",
    "mig_mode": rf"enabled|disabled|{UNSUPPORTED}",
    "compute_capability": rf"[0-9]{{1,2}}\.[0-9]{{1,2}}|{UNSUPPORTED}",
    "process": r"[0-9]{1,9}:[0-9]{1,18}",
}
"""The values that each key of a state file takes; ``process`` may be there several times.

``parent`` and ``profile`` are a MIG instance's. An ``xid`` is one event, when it changes; 0 is none. GPUs of one
``nvlink_group`` are joined by NVLinks.
"""

NO_PROCESS = "none"


class SimulationError(Exception):
    """A wish that cannot be met; its text is one sentence for the person who asked."""


def gpu_uuid(number: int, instance: str = DEFAULT_INSTANCE) -> str:
    """Return the stable UUID of an instance's GPU; two instances on a host never share one."""
    return f"GPU-51a0c0de-{_group(instance)}-4000-8000-{number:012x}"


def mig_uuid(number: int, index: int, profile: str, instance: str = DEFAULT_INSTANCE) -> str:
    """Return the stable UUID of a GPU's MIG instance; another division of the GPU has others."""
    digits = f"{zlib.crc32(profile.encode()):08x}{index:04x}"
    return f"MIG-51a0c0de-{_group(instance)}-4000-8{number:03x}-{digits}"


def _group(instance: str) -> str:
    group = 0 if instance == DEFAULT_INSTANCE else zlib.crc32(instance.encode()) % 0xFFFF + 1
    return f"{group:04x}"


def first_state(number: int, wave_seconds: int = 0) -> list[tuple[str, str]]:
    """Return the lines of a new GPU's state file: an A100 at moderate work."""
    values = {
        "index": number,
        "name": "NVIDIA A100-SXM4-80GB (simulated)",
        "memory_total_bytes": 80 * 2**30,
        "memory_used_bytes": 12 * 2**30,
        "temperature_celsius": 42 + 3 * (number % 4),
        "utilization_percent": 40,
        "power_milliwatts": 180_000,
        "power_limit_milliwatts": 400_000,
        "graphics_clock_mhz": 1410,
        "sm_clock_mhz": 1410,
        "wave_seconds": wave_seconds,
    }
    return [(key, str(value)) for key, value in values.items()]


def first_instance_state(
    index: int, parent: str, profile: str, wave_seconds: int = 0
) -> list[tuple[str, str]]:
    """Return the lines of a new MIG instance's state file; its memory is what its profile says."""
    values = {
        "index": index,
        "parent": parent,
        "profile": profile,
        "memory_total_bytes": int(profile.partition(".")[2].removesuffix("gb")) * 2**30,
        "memory_used_bytes": 2**30,
        "wave_seconds": wave_seconds,
    }
    return [(key, str(value)) for key, value in values.items()]


def create(
    gpus: int,
    directory: Path,
    library: Path,
    cdi: Path,
    *,
    kind: str = "nvidia.com/gpu",
    instance: str = DEFAULT_INSTANCE,
    wave_seconds: int = 0,
    mig: Mapping[int, Sequence[str]] | None = None,
    numa: Sequence[int] = (),
    nvlink: Sequence[int] = (),
) -> list[str]:
    """Make the GPUs that are not there yet and the CDI specification of all.

    ``mig`` divides GPUs, also those that are there, into instances of the named profiles; ``numa`` has the NUMA node
    and ``nvlink`` the group of each GPU in turn. Return the UUIDs of what can be used: GPUs, or their instances.
    """
    if not 1 <= gpus <= MAX_GPUS:
        raise SimulationError(f"The number of GPUs is {gpus}; it must be from 1 to {MAX_GPUS}.")
    if not library.is_file():
        raise SimulationError(f"There is no library at {library}; build it first.")
    parse_pair(f"wave_seconds={wave_seconds}")
    pairs = _place(gpus, numa, nvlink)
    wishes = {number: _check_division(number, gpus, wish) for number, wish in (mig or {}).items()}
    uuids = [gpu_uuid(number, instance) for number in range(gpus)]
    for number, uuid in enumerate(uuids):
        _make(directory / uuid, first_state(number, wave_seconds))
        if number in wishes:
            names = [mig_uuid(number, i, p, instance) for i, p in enumerate(wishes[number])]
            _divide(uuid, dict(zip(names, wishes[number], strict=True)), directory, wave_seconds)
        if pairs[number]:
            change(uuid, pairs[number], directory)
    leaves = {leaf: uuid for uuid in uuids for leaf in instances_of(uuid, directory) or [uuid]}
    specification = build_specification(kind, leaves, directory.resolve(), library.resolve())
    text = json.dumps(specification, indent=2) + "\n"
    if not cdi.exists() or cdi.read_text() != text:
        cdi.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cdi, text)
    return list(leaves)


def _place(gpus: int, numa: Sequence[int], nvlink: Sequence[int]) -> list[list[str]]:
    """Return the topology pairs of each GPU: NUMA node and NVLink group."""
    pairs: list[list[str]] = [[] for _ in range(gpus)]
    for key, numbers in (("numa_node", numa), ("nvlink_group", nvlink)):
        if len(numbers) > gpus:
            raise SimulationError(
                f"{key} has {len(numbers)} numbers for {gpus} GPUs; name one each."
            )
        for number, value in enumerate(numbers):
            parse_pair(f"{key}={value}")
            pairs[number].append(f"{key}={value}")
    return pairs


def _check_division(number: int, gpus: int, profiles: Sequence[str]) -> Sequence[str]:
    if not 0 <= number < gpus:
        raise SimulationError(f"There is no GPU {number} to divide; they are 0 to {gpus - 1}.")
    if not 1 <= len(profiles) <= MAX_INSTANCES:
        raise SimulationError(
            f"GPU {number} would have {len(profiles)} MIG instances; it can have 1 to {MAX_INSTANCES}."
        )
    for profile in profiles:
        parse_pair(f"profile={profile}")
    return profiles


def _make(folder: Path, first: list[tuple[str, str]]) -> None:
    """Make a state file where there is none."""
    if not (folder / "state").exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        write_whole(folder / "state", format_state(first))


def _divide(uuid: str, wanted: Mapping[str, str], directory: Path, wave_seconds: int) -> None:
    """Give a GPU the MIG instances ``wanted``, profiles by UUID, and no others."""
    for gone in set(instances_of(uuid, directory)) - set(wanted):
        shutil.rmtree(directory / gone)
    for index, (name, profile) in enumerate(wanted.items()):
        _make(directory / name, first_instance_state(index, uuid, profile, wave_seconds))
    change(uuid, ["mig_mode=enabled"], directory)


def instances_of(uuid: str, directory: Path) -> list[str]:
    """Return the UUIDs of a GPU's MIG instances by index; none where it is not divided."""
    if ("mig_mode", "enabled") not in read_pairs(directory / uuid / "state"):
        return []
    states = {path.parent.name: dict(read_pairs(path)) for path in directory.glob("MIG-*/state")}
    own = {name: int(state["index"]) for name, state in states.items() if state["parent"] == uuid}
    return sorted(own, key=own.__getitem__)


def build_specification(
    kind: str, leaves: Mapping[str, str], directory: Path, library: Path
) -> dict[str, object]:
    """Build the CDI specification: a device per UUID and ``all``, each the mounts of its directories.

    ``leaves`` has the GPU of each; that of a MIG instance is mounted with it, as a real one's is seen.
    """

    def mount(source: Path, target: str) -> dict[str, object]:
        options = ["ro", "nosuid", "nodev", "rbind"]
        return {"hostPath": str(source), "containerPath": target, "options": options}

    def mounts(*uuids: str) -> list[dict[str, object]]:
        return [mount(directory / uuid, f"{DEFAULT_DIRECTORY}/{uuid}") for uuid in uuids]

    devices = {leaf: mounts(*dict.fromkeys((uuid, leaf))) for leaf, uuid in leaves.items()}
    everything = dict.fromkeys(name for leaf, uuid in leaves.items() for name in (uuid, leaf))
    devices["all"] = mounts(*everything)
    return {
        "cdiVersion": "0.6.0",
        "kind": kind,
        "containerEdits": {"mounts": [mount(library, LIBRARY_IN_CONTAINER)]},
        "devices": [
            {"name": name, "containerEdits": {"mounts": edits}} for name, edits in devices.items()
        ],
    }


def change(uuid: str, pairs: list[str], directory: Path) -> None:
    """Give a GPU or MIG instance new values; ``process`` pairs replace all its processes (``none``: no one)."""
    state = directory / uuid / "state"
    if not re.fullmatch(r"(GPU|MIG)-[0-9a-f-]+", uuid) or not state.is_file():
        raise SimulationError(f"There is no simulated GPU {uuid} in {directory}.")
    new = [parse_pair(pair) for pair in pairs]
    replaced = {key for key, _ in new}
    if len(replaced - {"process"}) != sum(key != "process" for key, _ in new):
        raise SimulationError("A key is given twice; name each key once.")
    kept = [(key, value) for key, value in read_pairs(state) if key not in replaced]
    write_whole(state, format_state(kept + [pair for pair in new if pair[1] != NO_PROCESS]))


def parse_pair(pair: str) -> tuple[str, str]:
    """Take ``key=value`` apart, or say what is wrong with it."""
    key, separator, value = pair.partition("=")
    if not separator or key not in FORMATS:
        raise SimulationError(f'"{pair}" is not key=value with a key of: {", ".join(FORMATS)}.')
    if key == "process" and value == NO_PROCESS:
        return key, value
    if not re.fullmatch(FORMATS[key], value):
        raise SimulationError(f'"{value}" is no value for {key}; it must match {FORMATS[key]}.')
    return key, value


def read_pairs(state: Path) -> list[tuple[str, str]]:
    """Return the pairs of a state file."""
    lines = (line.partition("=") for line in state.read_text().splitlines() if "=" in line)
    return [(key, value) for key, _, value in lines]


def format_state(pairs: list[tuple[str, str]]) -> str:
    """Write pairs as the lines of a state file."""
    return "".join(f"{key}={value}\n" for key, value in pairs)


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step, readable for every user: a researcher's container reads it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"simulate.py: {message}\n")


def _parse_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _parse_division(text: str) -> tuple[int, list[str]]:
    """Take ``1=3g.40gb:1,1g.10gb:4`` apart: the GPU's number, and a profile for each instance."""
    number, _, profiles = text.partition("=")
    parts = [part.partition(":") for part in profiles.split(",")]
    return int(number), [name for name, _, count in parts for _ in range(int(count))]


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(description="Make and change simulated GPUs.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    make = commands.add_parser("create", help="make state directories and a CDI specification")
    make.add_argument("--gpus", type=int, required=True, metavar="N")
    make.add_argument("--dir", type=Path, default=DEFAULT_DIRECTORY, help="default: %(default)s")
    make.add_argument("--library", type=Path, required=True, help="the built libnvidia-ml.so.1")
    make.add_argument("--cdi", type=Path, required=True, help="the specification to write")
    make.add_argument("--kind", default="nvidia.com/gpu", help="CDI kind; default: %(default)s")
    make.add_argument("--instance", default=DEFAULT_INSTANCE, help="whose GPUs; part of the UUIDs")
    make.add_argument("--wave-seconds", type=int, default=0, metavar="N", help="let them swing")
    make.add_argument(
        "--mig",
        type=_parse_division,
        action="append",
        default=[],
        metavar="GPU=PROFILE:COUNT,…",
        help="divide a GPU into MIG instances, as 0=1g.10gb:7; may be given for several GPUs",
    )
    make.add_argument(
        "--numa", type=_parse_numbers, default=[], metavar="N,N,…", help="NUMA node of each GPU"
    )
    make.add_argument(
        "--nvlink", type=_parse_numbers, default=[], metavar="N,N,…", help="NVLink group of each"
    )
    put = commands.add_parser("set", help="change what a GPU says")
    put.add_argument("uuid", metavar="UUID")
    put.add_argument("pairs", nargs="+", metavar="key=value")
    put.add_argument("--dir", type=Path, default=DEFAULT_DIRECTORY, help="default: %(default)s")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run one command; print the UUIDs made, or one sentence to stderr and return 2."""
    given = _parse_arguments(arguments)
    try:
        if given.command == "set":
            change(given.uuid, given.pairs, given.dir)
            return 0
        uuids = create(
            given.gpus,
            given.dir,
            given.library,
            given.cdi,
            kind=given.kind,
            instance=given.instance,
            wave_seconds=given.wave_seconds,
            mig=dict(given.mig),
            numa=given.numa,
            nvlink=given.nvlink,
        )
    except SimulationError as error:
        sys.stderr.write(f"simulate.py: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"simulate.py: {error.filename}: {error.strerror}.\n")
        return 2
    sys.stdout.write("".join(f"{uuid}\n" for uuid in uuids))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
