"""Which GPUs scripts/up takes: what driver and CDI specification both name, or simulated ones."""

import pytest

from tests.scripts.cdi import A, B, specification
from tests.scripts.conftest import BareMachine

MIG = "MIG-cccccccc-0000-4000-8000-000000000000"
PREPARE = """
set -euo pipefail
repository=$PWD lib=$PWD/scripts/lib
for part in terminal settings packages docker gpus stack build-images; do . "$lib/$part.sh"; done
load_settings
prepare_gpus {wish}
cat $state/gpus.compose.yml 2>/dev/null || echo no devices
"""


def driver(*uuids: str, mig: str = "Disabled") -> str:
    """A stub of nvidia-smi on a machine with these GPUs."""
    rows = "".join(f"echo '{uuid}, {mig}'\n" for uuid in uuids)
    listing = "".join(
        f"echo 'GPU {i}: NVIDIA A100 (UUID: {uuid})'\n" for i, uuid in enumerate(uuids)
    )
    if mig == "Enabled":
        listing += f"echo '  MIG 1g.10gb     Device  0: (UUID: {MIG})'\n"
    return f'case "$*" in -L) {listing} ;; *) {rows} ;; esac'


def test_real_gpus_reach_the_agent_by_uuid(docker_machine: BareMachine) -> None:
    docker_machine.stub("nvidia-smi", driver(A, B))
    docker_machine.files["/etc/cdi/nvidia.yaml"] = specification(A, B)
    outcome = docker_machine.run(PREPARE.format(wish="auto"))
    assert outcome.code == 0, outcome.stderr
    assert f"- nvidia.com/gpu={A}\n" in outcome.stdout
    assert f"- nvidia.com/gpu={B}\n" in outcome.stdout
    assert "2 NVIDIA GPUs" in outcome.stdout
    assert "gpu=all" not in outcome.stdout


def test_a_split_gpu_is_named_by_its_instances(docker_machine: BareMachine) -> None:
    docker_machine.stub("nvidia-smi", driver(A, mig="Enabled"))
    docker_machine.files["/etc/cdi/nvidia.yaml"] = specification(MIG)
    outcome = docker_machine.run(PREPARE.format(wish="auto"))
    assert outcome.code == 0, outcome.stderr
    assert f"- nvidia.com/gpu={MIG}\n" in outcome.stdout
    assert "1 NVIDIA MIG instance\n" in outcome.stdout
    assert f"nvidia.com/gpu={A}" not in outcome.stdout


def test_a_missing_specification_is_generated(docker_machine: BareMachine) -> None:
    docker_machine.stub("nvidia-smi", driver(A))
    docker_machine.stub(
        "nvidia-ctk",
        f"mkdir -p /etc/cdi; [ \"$*\" = 'cdi generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml' ] "
        f"&& printf '%s' '{specification(A)}' >/etc/cdi/nvidia.yaml",
    )
    outcome = docker_machine.run(PREPARE.format(wish="never"))
    assert outcome.code == 0, outcome.stderr
    assert f"- nvidia.com/gpu={A}\n" in outcome.stdout


def test_no_specification_and_nothing_to_make_it_with(docker_machine: BareMachine) -> None:
    docker_machine.stub("nvidia-smi", driver(A))
    outcome = docker_machine.run(PREPARE.format(wish="auto"))
    assert outcome.code == 1
    assert "install the package nvidia-container-toolkit" in outcome.error


@pytest.mark.parametrize("wish", ["auto", "never"])
def test_a_specification_that_names_a_gpu_the_driver_lacks(
    docker_machine: BareMachine, wish: str
) -> None:
    docker_machine.stub("nvidia-smi", driver(A))
    docker_machine.files["/etc/cdi/nvidia.yaml"] = specification(A, B)
    outcome = docker_machine.run(PREPARE.format(wish=wish))
    assert outcome.code == 1
    assert outcome.error == (
        f"error: /etc/cdi/nvidia.yaml names {B}, a GPU that the NVIDIA driver does not have: run "
        "'nvidia-ctk cdi generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml' and try again."
    )


def test_a_gpu_that_no_specification_names(docker_machine: BareMachine) -> None:
    docker_machine.stub("nvidia-smi", driver(A, B))
    docker_machine.files["/etc/cdi/nvidia.yaml"] = specification(A)
    outcome = docker_machine.run(PREPARE.format(wish="auto"))
    assert outcome.code == 1
    assert f"No CDI specification names {B}" in outcome.error


@pytest.mark.parametrize("wish", ["auto", "never"])
def test_a_real_specification_without_a_driver_is_not_simulated_over(
    docker_machine: BareMachine, wish: str
) -> None:
    docker_machine.files["/etc/cdi/nvidia.yaml"] = specification(A)
    outcome = docker_machine.run(PREPARE.format(wish=wish))
    assert outcome.code == 1
    assert f"/etc/cdi/nvidia.yaml names {A}, but no NVIDIA driver answers" in outcome.error
    assert "/var/lib/workbench" not in outcome.changed, "nothing half-made is left"


def test_cpu_only(docker_machine: BareMachine) -> None:
    docker_machine.files["/etc/cdi/other-simulated.json"] = specification(A)
    outcome = docker_machine.run(PREPARE.format(wish="never"))
    assert outcome.code == 0, outcome.stderr
    assert "this workbench is CPU only" in outcome.stdout
    assert outcome.stdout.endswith("no devices\n")


@pytest.mark.parametrize(("wish", "number"), [("auto", 2), ("3", 3)])
def test_simulated_gpus_are_called_simulated(
    docker_machine: BareMachine, wish: str, number: int
) -> None:
    uuids = "\n".join(f"GPU-51a0c0de-0000-4000-8000-{i:012x}" for i in range(number))
    docker_machine.stub("python3", f"echo \"$*\" >/tmp/asked; printf '%s\\n' '{uuids}'")
    prepared = "mkdir /var/lib/workbench; touch /var/lib/workbench/libnvidia-ml.so.1\n"
    outcome = docker_machine.run(prepared + PREPARE.format(wish=wish) + "cat /tmp/asked")
    assert outcome.code == 0, outcome.stderr
    assert f"{number} SIMULATED GPUs" in outcome.stdout
    assert f"--gpus {number} " in outcome.stdout
    assert outcome.stdout.count("nvidia.com/gpu=GPU-51a0c0de") == number


def test_the_gpus_that_are_there_are_counted_not_their_mig_instances(
    docker_machine: BareMachine,
) -> None:
    docker_machine.files["/etc/cdi/workbench-simulated.json"] = f"""{{"devices": [
      {{"name": "{A}", "hostPath": "/gpus/{A}"}},
      {{"name": "{MIG}", "hostPath": "/gpus/{B}", "more": "/gpus/{MIG}"}},
      {{"name": "{MIG[:-1]}1", "hostPath": "/gpus/{B}", "more": "/gpus/{MIG[:-1]}1"}},
      {{"name": "{MIG[:-1]}2", "hostPath": "/gpus/{B}", "more": "/gpus/{MIG[:-1]}2"}}
    ]}}"""
    docker_machine.stub("python3", f"echo \"$*\" >/tmp/asked; echo '{A}'; echo '{MIG}'")
    prepared = "mkdir /var/lib/workbench; touch /var/lib/workbench/libnvidia-ml.so.1\n"
    outcome = docker_machine.run(prepared + PREPARE.format(wish="auto") + "cat /tmp/asked")
    assert outcome.code == 0, outcome.stderr
    assert "--gpus 2 " in outcome.stdout
    assert "1 SIMULATED GPU and 1 SIMULATED MIG instance: for a look" in outcome.stdout
    assert f"- nvidia.com/gpu={MIG}\n" in outcome.stdout


def test_without_python_the_hubs_image_makes_the_simulated_gpus(machine: BareMachine) -> None:
    machine.stub(
        "docker",
        """
case "$1" in
  build) mkdir -p /var/lib/workbench/library.new && touch "$_/libnvidia-ml.so.1" ;;
  run) echo "$*" >&2; echo GPU-made ;;
esac""",
    )
    outcome = machine.run(PREPARE.format(wish="1"))
    assert outcome.code == 0, outcome.stderr
    assert "gpu-workbench-hub:local /simulation/simulate.py create --gpus 1" in outcome.stderr
    assert "- nvidia.com/gpu=GPU-made" in outcome.stdout
