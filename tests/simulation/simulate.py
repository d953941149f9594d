#!/usr/bin/env python3
"""Makes simulated GPUs and rewrites what they say.

Files only ever change whole (a rename): whoever reads meanwhile sees the old one or the new one.
Standard library only: it runs on a bare host.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import zlib
from pathlib import Path
from typing import NoReturn

DEFAULT_DIRECTORY = Path("/run/simulated-gpus")
DEFAULT_INSTANCE = "workbench"
MAX_GPUS = 16
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
    "index": r"[0-9]{1,2}",
    "wave_seconds": r"[0-9]{1,5}",
    "name": r"[ -~]{1,95}",
    "health": r"ok|lost",
    "mig_mode": rf"enabled|disabled|{UNSUPPORTED}",
    "compute_capability": rf"[0-9]{{1,2}}\.[0-9]{{1,2}}|{UNSUPPORTED}",
    "process": r"[0-9]{1,9}:[0-9]{1,18}",
}
"""What may stand behind each key of a state file; ``process`` may be there several times."""

NO_PROCESS = "none"


class SimulationError(Exception):
    """A wish that cannot be met; its text is one sentence for the person who asked."""


def gpu_uuid(number: int, instance: str = DEFAULT_INSTANCE) -> str:
    """Return the stable UUID of an instance's GPU; two instances on a host never share one."""
    group = 0 if instance == DEFAULT_INSTANCE else zlib.crc32(instance.encode()) % 0xFFFF + 1
    return f"GPU-51a0c0de-{group:04x}-4000-8000-{number:012x}"


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


def create(
    gpus: int,
    directory: Path,
    library: Path,
    cdi: Path,
    *,
    kind: str = "nvidia.com/gpu",
    instance: str = DEFAULT_INSTANCE,
    wave_seconds: int = 0,
) -> list[str]:
    """Make the GPUs that are not there yet and the CDI specification of all; return the UUIDs."""
    if not 1 <= gpus <= MAX_GPUS:
        raise SimulationError(f"The number of GPUs is {gpus}; it must be from 1 to {MAX_GPUS}.")
    if not library.is_file():
        raise SimulationError(f"There is no library at {library}; build it first.")
    parse_pair(f"wave_seconds={wave_seconds}")
    uuids = [gpu_uuid(number, instance) for number in range(gpus)]
    for number, uuid in enumerate(uuids):
        state = directory / uuid / "state"
        if not state.exists():
            state.parent.mkdir(parents=True, exist_ok=True)
            state.parent.chmod(0o755)
            write_whole(state, format_state(first_state(number, wave_seconds)))
    specification = build_specification(kind, uuids, directory.resolve(), library.resolve())
    text = json.dumps(specification, indent=2) + "\n"
    if not cdi.exists() or cdi.read_text() != text:
        cdi.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cdi, text)
    return uuids


def build_specification(
    kind: str, uuids: list[str], directory: Path, library: Path
) -> dict[str, object]:
    """Build the CDI specification: a device per UUID and ``all``, each a directory's mount."""

    def mount(source: Path, target: str) -> dict[str, object]:
        options = ["ro", "nosuid", "nodev", "rbind"]
        return {"hostPath": str(source), "containerPath": target, "options": options}

    mounts = {uuid: mount(directory / uuid, f"{DEFAULT_DIRECTORY}/{uuid}") for uuid in uuids}
    devices = {uuid: [mounts[uuid]] for uuid in uuids} | {"all": list(mounts.values())}
    return {
        "cdiVersion": "0.6.0",
        "kind": kind,
        "containerEdits": {"mounts": [mount(library, LIBRARY_IN_CONTAINER)]},
        "devices": [
            {"name": name, "containerEdits": {"mounts": edits}} for name, edits in devices.items()
        ],
    }


def change(uuid: str, pairs: list[str], directory: Path) -> None:
    """Give a GPU new values; ``process`` pairs replace all its processes (``none``: no one)."""
    state = directory / uuid / "state"
    if not re.fullmatch(r"GPU-[0-9a-f-]+", uuid) or not state.is_file():
        raise SimulationError(f"There is no simulated GPU {uuid} in {directory}.")
    new = [parse_pair(pair) for pair in pairs]
    replaced = {key for key, _ in new}
    if len(replaced - {"process"}) != sum(key != "process" for key, _ in new):
        raise SimulationError("A key is given twice; name each key once.")
    old = [line.partition("=") for line in state.read_text().splitlines() if "=" in line]
    kept = [(key, value) for key, _, value in old if key not in replaced]
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
