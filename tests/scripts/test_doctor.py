"""The report of scripts/doctor: on a bare machine, on a good one, and on one with each thing wrong."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simulation.host import SimulatedHost
from spawner.catalog import load_catalog
from testing.paths import ROOT
from testing.stack import run
from tests.scripts.cdi import A, B, specification
from tests.scripts.conftest import BareMachine, Outcome

CASES = json.loads((ROOT / "tests/contract/compatibility.json").read_text())
GOLDEN = json.loads((ROOT / "tests/contract/doctor-report.json").read_text())
SOURCED = (
    "repository=$PWD lib=$PWD/scripts/lib; . scripts/lib/terminal.sh; . scripts/lib/docker.sh; "
    ". scripts/lib/verdict.sh\n"
)


def test_the_shell_judges_as_the_table_states() -> None:
    """All cases go through one shell: each prints its verdict in three lines."""
    calls = []
    for case in CASES:
        release, gpu = case["release"], case["gpu"]
        words = [release["cuda"], release["driver"], " ".join(release["architectures"])]
        facts = ("driver_version", "cuda_driver_version", "compute_capability")
        words += [gpu[fact] or "" for fact in facts]
        calls.append(f'judge {shlex.join(words)}; printf \'%s\\n\' "$fit" "$why" "$advice"\n')
    done = run("bash", "-c", "set -euo pipefail; " + SOURCED + "".join(calls), cwd=ROOT)
    lines = iter(done.stdout.splitlines())
    said = [dict(zip(("fit", "why", "advice"), three)) for three in zip(lines, lines, lines)]  # noqa: B905
    assert said == [
        {**case["verdict"], "advice": case["verdict"]["advice"] or ""} for case in CASES
    ]


def test_the_shell_reads_the_catalog_as_the_hub_does() -> None:
    releases = load_catalog(ROOT / "images/catalog.toml").releases.values()
    done = run("bash", "-c", SOURCED + "release_stacks", cwd=ROOT)
    assert done.stdout.splitlines() == [
        "|".join((r.name, r.cuda, r.driver, " ".join(r.architectures))) for r in releases
    ]


def test_a_bare_machine_lists_what_is_missing(machine: BareMachine) -> None:
    machine.stub("df", "printf 'Avail\\n  500\\n'")
    outcome = machine.run("scripts/doctor --json", user="nobody")
    report = json.loads(outcome.stdout)
    assert (outcome.code, report["exit_code"], outcome.stderr) == (0, 0, "")
    assert not outcome.changed
    assert report["gpus"] == []
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["driver"]["found"].startswith("none, and no NVIDIA GPU")
    assert checks["Docker"]["found"] == "not installed: scripts/up installs it"
    assert checks["disk"]["found"].endswith("GB free at /var/lib")


@pytest.mark.parametrize("words", ["--frobnicate", "--json --json", "json"])
def test_wrong_usage(machine: BareMachine, words: str) -> None:
    outcome = machine.run(f"scripts/doctor {words}")
    assert outcome.code == 2
    assert outcome.error.startswith("error: ")
    assert outcome.stdout == ""


def test_help_is_printed(machine: BareMachine) -> None:
    outcome = machine.run("scripts/doctor --help")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("usage: scripts/doctor")


DOCKER = """
case "$*" in
  "compose version --short") echo 2.26.1 ;;
  "buildx version") echo buildx ;;
  *Components*) printf 'Engine 26.1.5\nrunc %s+ds1\ncontainerd v%s~ds1\n' "${RUNC-1.3.3}" "${CONTAINERD-1.7.24}" ;;
  "version --format"*) [ -z "${NO_DOCKER-}" ] && echo "${ENGINE-26.1.5}" ;;
  *DockerRootDir*) echo /var/lib ;;
  *CgroupDriver*) echo "${CGROUPS-systemd}" ;;
  *CDISpecDirs*) [ -n "${CDI_OFF-}" ] || echo /etc/cdi ;;
  "image inspect"*) exit 1 ;;
  *service=hub) echo the-hub ;;
  "exec the-hub workbench network probe") echo "${PROBED-6 addresses tried}"; exit "${PROBE_CODE-0}" ;;
  "ps --quiet") echo "${RUNNING-}" ;;
  inspect*) echo "${INSPECTED-}" ;;
esac"""
SMI = """
case "$*" in
  -L) echo "GPU 0: NVIDIA H100 (UUID: $A)"; echo "GPU 1: NVIDIA GeForce RTX 5090 (UUID: $B)" ;;
  -q) echo "Driver Version                 : $DRIVER"; echo "CUDA Version                   : $CUDA" ;;
  *=driver_version*) echo "$DRIVER"; echo "$DRIVER" ;;
  *=uuid,mig*) echo "$A, [N/A]"; echo "$B, Disabled" ;;
  *=uuid,compute_cap*) [ -z "${NO_CAPABILITY-}" ] || { echo 'Field "compute_cap" is not a valid field' >&2; exit 2; }
    echo "$A, 9.0"; echo "$B, 12.0" ;;
  *=index*) echo "0, $A, 81559, $DRIVER, NVIDIA H100 80GB HBM3"
    echo "1, $B, [N/A], $DRIVER, NVIDIA GeForce RTX 5090 \\"O\\"C" ;;
esac"""
DEVICES = """
mkdir -p /tmp/dev/char; mknod /tmp/dev/nvidia0 c 1 3; mknod /tmp/dev/nvidiactl c 1 5
ln -s ../nvidia0 /tmp/dev/char/1:3; ln -s ../nvidiactl /tmp/dev/char/1:5
printf '%s 1 0 - Live\\n' nvidia nvidia_uvm >/tmp/modules
sed -i 's,^loaded_modules=.*,loaded_modules=/tmp/modules,; s,^device_folder=.*,device_folder=/tmp/dev,' \\
  scripts/lib/doctor.sh
sed -i 's,^runc_changelog=.*,runc_changelog=/tmp/log,' scripts/lib/docker.sh
"""


@dataclass
class GpuHost:
    """A machine with two GPUs on which everything is as it should be, until a test changes something."""

    machine: BareMachine

    def __post_init__(self) -> None:
        """Put everything in its place."""
        self.machine.stub("docker", DOCKER)
        self.machine.stub("nvidia-smi", SMI)
        self.machine.stub(
            "nvidia-ctk", 'echo "NVIDIA Container Toolkit CLI version ${TOOLKIT-1.18.2}"'
        )
        self.machine.stub("df", 'echo Avail; echo "${FREE-500}"')
        self.machine.files["/etc/cdi/nvidia.yaml"] = self.specification(A, B)
        self.set(A=A, B=B, DRIVER="590.48.01", CUDA="13.2")

    @staticmethod
    def specification(*uuids: str, driver: str = "590.48.01") -> str:
        return specification(*uuids) + f"# hostPath: /usr/lib/libcuda.so.{driver}\n"

    def set(self, **environment: str) -> None:
        self.machine.environment.update(environment)

    def run_doctor(self, before: str = "", option: str = "--json") -> Outcome:
        return self.machine.run(f"{DEVICES}{before}\nscripts/doctor {option}")

    def report(self, before: str = "") -> dict[str, Any]:
        outcome = self.run_doctor(before)
        report: dict[str, Any] = json.loads(outcome.stdout)
        assert outcome.stderr == ""
        assert outcome.code == report["exit_code"]
        return report


@pytest.fixture
def host(machine: BareMachine) -> GpuHost:
    return GpuHost(machine)


def test_a_good_machine(host: GpuHost) -> None:
    report = host.report()
    assert report.keys() == GOLDEN.keys()
    assert {check["state"] for check in report["checks"]} == {"ok"}, report["checks"]
    assert (report["place"], report["simulated"]) == ("host", False)
    h100, rtx = report["gpus"]
    assert h100.keys() == GOLDEN["gpus"][0].keys()
    assert h100 | {"verdicts": None} == {
        "index": 0,
        "uuid": A,
        "name": "NVIDIA H100 80GB HBM3",
        "compute_capability": "9.0",
        "cuda_cores": None,
        "memory_total_bytes": 81559 * 2**20,
        "driver_version": "590.48.01",
        "cuda_driver_version": "13.2",
        "simulated": False,
        "verdicts": None,
    }
    assert h100["verdicts"]["v2.7"]["fit"] == "works"
    assert (rtx["name"], rtx["memory_total_bytes"]) == ('NVIDIA GeForce RTX 5090 "O"C', None)
    assert rtx["verdicts"]["v2.7"]["fit"] == "fails"
    assert "no kernel for compute capability 12.0" in rtx["verdicts"]["v2.7"]["why"]
    assert report["exit_code"] == 1


def test_only_the_chosen_releases_are_judged(host: GpuHost) -> None:
    assert [list(gpu["verdicts"]) for gpu in host.report()["gpus"]] == [["v2.7"]] * 2
    host.set(WORKBENCH_RELEASES="v2.7 v2.15")
    _, rtx = host.report()["gpus"]
    assert {name: verdict["fit"] for name, verdict in rtx["verdicts"].items()} == {
        "v2.7": "fails",
        "v2.15": "works",
    }


def test_a_person_reads_a_table_with_what_to_do(host: GpuHost) -> None:
    lines = [" ".join(line.split()) for line in host.run_doctor(option="").stdout.splitlines()]
    assert "0 NVIDIA H100 80GB HBM3 9.0 unknown 79 GiB 590.48.01 13.2" in lines
    where = next(i for i, line in enumerate(lines) if line.startswith("fails GPU 1: v2.7 has no"))
    assert lines[where + 1] == "→ Choose a release that is built for this GPU."


WRONG = {
    "an old toolkit": ({"TOOLKIT": "1.17.8"}, "", "container toolkit", "fails", "1.17.8"),
    "no toolkit": ({"TOOLKIT": ""}, "", "container toolkit", "fails", "does not answer"),
    "an old engine": ({"ENGINE": "24.0.9"}, "", "Docker", "fails", "24.0.9 has no CDI"),
    "CDI off": ({"CDI_OFF": "1"}, "", "Docker", "note", "CDI is switched off"),
    "no Docker": ({"NO_DOCKER": "1"}, "", "Docker", "note", "it does not run"),
    "nobody knows CDI": ({"NO_DOCKER": "1"}, "", "CDI names", "unknown", "does not say where"),
    "an old runc": ({"RUNC": "1.1.5"}, "", "runc", "fails", "CVE-2025-31133 CVE-2025-52565"),
    "a runc with one fix": (
        {"RUNC": "1.1.15"}, "echo CVE-2025-31133 | gzip >/tmp/log", "runc", "fails",
        "host: CVE-2025-52565 CVE-2025-52881",
    ),
    "a runc whose Debian package is fixed": (
        {"RUNC": "1.1.15"}, "echo CVE-2025-31133 CVE-2025-52565 CVE-2025-52881 | gzip >/tmp/log", "runc",
        "ok", "1.1.15",
    ),
    "a runc before its series' fix": ({"RUNC": "1.3.2"}, "", "runc", "fails", "CVE-2025-52565"),
    "a newer runc": ({"RUNC": "1.5.0"}, "", "runc", "ok", "1.5.0"),
    "an old containerd": ({"CONTAINERD": "1.6.20"}, "", "containerd", "fails", "1.6.20"),
    "an old kernel": ({}, "uname() { echo 5.10.0-8-amd64; }; export -f uname", "kernel", "fails", "5.10"),
    "an open wall": ({"PROBE_CODE": "1", "PROBED": "10.0.0.1:22 open"}, "", "network", "fails", "10.0.0.1:22"),
    "a probe that fails": ({"PROBE_CODE": "2", "PROBED": "no broker"}, "", "network", "unknown", "no broker"),
    "a full disk": ({"FREE": "3"}, "", "disk", "fails", "3 GB free at /var/lib"),
    "nouveau": ({}, "echo 'nouveau 1 0 -' >>/tmp/modules", "kernel modules", "fails", "nouveau"),
    "no uvm": ({}, "sed -i /uvm/d /tmp/modules", "kernel modules", "fails", "not loaded: nvidia_uvm"),
    "no modules": ({}, "rm /tmp/modules", "kernel modules", "unknown", "cannot be read"),
    "no symlink": ({}, "rm /tmp/dev/char/1:3", "daemon-reload", "fails", "/tmp/dev/nvidia0"),
    "cgroupfs": ({"CGROUPS": "cgroupfs"}, "rm -r /tmp/dev/char", "daemon-reload", "ok", ""),
    "legacy --gpus": (
        {"RUNNING": "abc", "INSPECTED": "runc :[[gpu]]"}, "", "daemon-reload", "fails", "1 container",
    ),
    "legacy runtime": (
        {"RUNNING": "abc", "INSPECTED": "nvidia"}, "", "daemon-reload", "fails", "1 container",
    ),
    "a CDI container": (
        {"RUNNING": "abc", "INSPECTED": "runc cdi:[]"}, "", "daemon-reload", "ok", "",
    ),
    "no specification": ({}, "rm /etc/cdi/nvidia.yaml", "CDI names", "note", "scripts/up makes it"),
    "a GPU too few": ({}, f"sed -i /{B}/d /etc/cdi/nvidia.yaml", "CDI names", "fails", f"names {B}"),
    "a GPU too many": (
        {}, f"echo '  name: {A[:-1]}9' >>/etc/cdi/nvidia.yaml", "CDI names", "fails", f"have {A[:-1]}9",
    ),
    "another driver's": (
        {}, "sed -i s/590.48.01/570.86.15/ /etc/cdi/nvidia.yaml", "CDI names", "fails", "of driver 570.86.15",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_one_thing_is_wrong(host: GpuHost, what: str) -> None:
    environment, before, name, state, found = WRONG[what]
    host.set(**environment)
    checks = {check["name"]: check for check in host.report(before)["checks"]}
    assert checks[name]["state"] == state, checks[name]
    assert found in checks[name]["found"]
    assert checks[name]["advice"] is not None or state != "fails"


def test_a_driver_too_old_for_the_question_is_judged_all_the_same(host: GpuHost) -> None:
    host.set(NO_CAPABILITY="1", DRIVER="470.256.02", CUDA="11.4")
    (gpu, _) = host.report()["gpus"]
    assert gpu["compute_capability"] is None
    assert gpu["verdicts"]["v2.7"]["why"] == "needs driver ≥ 525.60.13, this host has 470.256.02"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (
            "Failed to initialize NVML: Driver/library version mismatch",
            "updated while it was loaded",
        ),
        (
            "NVIDIA-SMI has failed because it could not communicate",
            "nvidia-smi says: NVIDIA-SMI has",
        ),
    ],
)
def test_a_broken_driver(host: GpuHost, said: str, found: str) -> None:
    host.machine.stub("nvidia-smi", f"echo '{said}'; exit 9")
    report = host.report()
    checks = {check["name"]: check for check in report["checks"]}
    assert (checks["driver"]["state"], report["exit_code"]) == ("fails", 1)
    assert found in checks["driver"]["found"]
    assert (
        checks["CDI names"]["found"]
        == "/etc/cdi/nvidia.yaml names real GPUs, but no driver answers"
    )


def test_a_gpu_without_a_driver_is_seen(machine: BareMachine) -> None:
    place = (
        "mkdir -p /tmp/pci/0000:01:00.0; cd /tmp/pci/0000:01:00.0; echo 0x10de >vendor; "
        "echo 0x030200 >class; cd /repository; "
        "sed -i s,^pci_devices=.*,pci_devices=/tmp/pci, scripts/lib/doctor.sh; "
    )
    outcome = machine.run(place + "scripts/doctor")
    assert outcome.code == 1
    assert "no driver answers for the NVIDIA GPU at 0000:01:00.0" in outcome.stdout


def test_simulated_gpus_are_called_simulated(host: GpuHost) -> None:
    host.machine.stub("nvidia-smi", "exit 127")
    spec = '{"devices": [{"name": "GPU-1", "x": 1}, {"name": "GPU-2"}]}'
    host.machine.files = {"/etc/cdi/workbench-simulated.json": spec.replace("}, ", "},\n")}
    report = host.report()
    assert report["simulated"] is True
    assert "2 SIMULATED GPUs" in json.dumps(report["checks"])


def test_cuda_cores_come_from_the_drivers_own_library(tmp_path: Path) -> None:
    simulated = SimulatedHost(tmp_path)
    uuid = simulated.add(0)
    script = str(ROOT / "scripts/lib/gpu_cores.py")
    done = run(sys.executable, script, env=simulated.environment)
    assert (done.stdout, done.stderr) == (f"{uuid} 6912\n", "")


def test_a_setting_that_opens_what_the_profile_closes_is_named(machine: BareMachine) -> None:
    machine.environment |= {"WORKBENCH_PROFILE": "students", "WORKBENCH_EGRESS": "open"}
    checks = {
        one["name"]: one
        for one in json.loads(machine.run("scripts/doctor --json").stdout)["checks"]
    }
    assert checks["profile"]["state"] == "note"
    assert checks["profile"]["found"] == "students, but servers reach the internet"


@pytest.mark.parametrize(
    ("days", "state", "said"),
    [(40, "ok", "40 days left"), (3, "note", "3 days left"), (-1, "fails", "has expired")],
)
def test_the_days_left_of_a_certificate(host: GpuHost, days: int, state: str, said: str) -> None:
    host.set(
        WORKBENCH_TLS="files",
        WORKBENCH_PUBLIC_URL="https://gpu.lab.test",
        WORKBENCH_TLS_CERTIFICATE="/etc/hostname",
        WORKBENCH_TLS_KEY="/etc/hostname",
    )
    host.machine.stub("openssl", f'echo "notAfter=$(date -d "{days} days 1 hour")"')
    checks = {check["name"]: check for check in host.report()["checks"]}
    assert checks["certificate"]["state"] == state
    assert said in checks["certificate"]["found"]
