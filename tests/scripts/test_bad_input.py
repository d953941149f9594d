"""Bad input of scripts/up and scripts/down: one sentence, an exit code, and nothing left behind."""

import re
import shlex

import pytest

from tests.scripts.conftest import BareMachine

WRONG_OPTIONS = [
    ("up --frobnicate", '"--frobnicate" is not an option.'),
    ("up --simulate-gpus", '--simulate-gpus needs a number from 1 to 16, not "".'),
    ("up --simulate-gpus 0", '--simulate-gpus needs a number from 1 to 16, not "0".'),
    ("up --simulate-gpus -1", '--simulate-gpus needs a number from 1 to 16, not "-1".'),
    ("up --simulate-gpus 17", '--simulate-gpus needs a number from 1 to 16, not "17".'),
    ("up --simulate-gpus=NaN", '--simulate-gpus needs a number from 1 to 16, not "NaN".'),
    ("up --no-simulate --simulate-gpus 1", "--simulate-gpus and --no-simulate exclude each other."),
    ("up --simulate-gpus 1 --no-simulate", "--simulate-gpus and --no-simulate exclude each other."),
    ("down --everything", '"--everything" is not an option.'),
    ("down --yes", "--yes goes with --purge only."),
    ("test unit nonsense", '"nonsense" is not a layer.'),
    ("test -- -k name", "Name the layer that the words after -- are for."),
    ("check --fast", "scripts/check takes no options."),
    ("dev", '"" is neither hub nor panel.'),
    ("dev --fast", '"--fast" is neither hub nor panel.'),
    ("dev hub panel", "scripts/dev takes one word."),
]

WRONG_SETTINGS = [
    ("WORKBENCH_PROT", "8000", "did you mean WORKBENCH_PORT?"),
    ("WORKBENCH_MAX_GPU", "1", "did you mean WORKBENCH_MAX_GPUS?"),
    ("WORKBENCH_ENTIRELY_SOMETHING_ELSE", "1", "see .env.example for the names."),
    ("WORKBENCH_PORT", "0", "a whole number from 1 to 65535"),
    ("WORKBENCH_PORT", "65536", "a whole number from 1 to 65535"),
    ("WORKBENCH_PORT", "", "a whole number from 1 to 65535"),
    ("WORKBENCH_PORT", "http", "a whole number from 1 to 65535"),
    ("WORKBENCH_MAX_GPUS", "-1", "a whole number from 0 to 1024"),
    ("WORKBENCH_MAX_GPUS", "NaN", "a whole number from 0 to 1024"),
    ("WORKBENCH_MEMORY_LIMIT", "lots", "a size such as 512M, 8G or 1.5T"),
    ("WORKBENCH_SHM_SIZE", "8", "a size such as 512M, 8G or 1.5T"),
    ("WORKBENCH_CPU_LIMIT", "-2", "a number of CPUs such as 4 or 7.5"),
    ("WORKBENCH_FIRST_UID", "0", "a whole number from 1000 to 2000000"),
    ("WORKBENCH_PIDS_LIMIT", "1e9", "a whole number from 64 to 4194304"),
    ("WORKBENCH_START_TIMEOUT", "3601", "a whole number from 10 to 3600"),
    ("WORKBENCH_INSTANCE", "Bad Name", "2 to 20 characters of a-z, 0-9 and -"),
    ("WORKBENCH_INSTANCE", "../etc", "2 to 20 characters of a-z, 0-9 and -"),
    ("WORKBENCH_BIND", "everywhere!", "an IP address"),
]


def assert_is_one_sentence(error: str) -> None:
    assert re.fullmatch(r"error: \S[^\n]*[.?]", error), error


@pytest.mark.parametrize(("command", "sentence"), WRONG_OPTIONS)
def test_wrong_usage(machine: BareMachine, command: str, sentence: str) -> None:
    outcome = machine.run(f"scripts/{command}")
    assert (outcome.code, outcome.error) == (2, f"error: {sentence}")
    assert not outcome.changed


@pytest.mark.parametrize(("name", "value", "sentence"), WRONG_SETTINGS)
def test_wrong_setting_of_the_environment(
    machine: BareMachine, name: str, value: str, sentence: str
) -> None:
    machine.environment[name] = value
    outcome = machine.run("scripts/up")
    assert outcome.code == 2
    assert_is_one_sentence(outcome.error)
    assert name in outcome.error
    assert sentence in outcome.error
    assert not outcome.changed


@pytest.mark.parametrize("script", ["up", "down", "test", "check"])
def test_wrong_setting_of_the_env_file(machine: BareMachine, script: str) -> None:
    outcome = machine.run(f"echo 'export WORKBENCH_PORTS = 1' >.env; scripts/{script}")
    assert outcome.code == 2
    assert "not NAME=value" in outcome.error
    outcome = machine.run(f"echo 'WORKBENCH_PORTS=1' >.env; scripts/{script}")
    assert (
        outcome.error
        == "error: WORKBENCH_PORTS in .env is not a setting: did you mean WORKBENCH_PORT?"
    )
    assert outcome.code == 2
    assert not outcome.changed


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("WORKBENCH_PORT=9000", "9000"),
        ("  export WORKBENCH_PORT='9001' # why", "9001"),
        ('WORKBENCH_PORT="9002"\r', "9002"),
        ("WORKBENCH_PORT=9003   # a comment", "9003"),
        ("#WORKBENCH_PORT=9004", "8000"),
        ("OTHER=1", "8000"),
    ],
)
def test_env_file_is_read_as_compose_reads_it(machine: BareMachine, line: str, value: str) -> None:
    look = ". scripts/lib/terminal.sh; . scripts/lib/settings.sh; load_settings; value_of WORKBENCH_PORT"
    prefix = f"set -euo pipefail; repository=$PWD; printf '%s\\n' {shlex.quote(line)} >.env; "
    outcome = machine.run(prefix + look)
    assert (outcome.stdout.strip(), outcome.stderr) == (value, "")


def test_the_environment_wins_over_the_env_file(machine: BareMachine) -> None:
    machine.environment["WORKBENCH_PORT"] = "none"
    outcome = machine.run("echo WORKBENCH_PORT=9000 >.env; scripts/up")
    assert 'WORKBENCH_PORT="none"' in outcome.error


@pytest.mark.parametrize("script", ["up", "down"])
def test_needs_root(machine: BareMachine, script: str) -> None:
    outcome = machine.run(f"scripts/{script}", user="nobody")
    assert outcome.code == 1
    assert outcome.error == f"error: scripts/{script} needs root: run this again with sudo."


@pytest.mark.parametrize("script", ["up", "down --purge --yes"])
def test_another_programs_folder_is_never_taken(docker_machine: BareMachine, script: str) -> None:
    docker_machine.environment["WORKBENCH_INSTANCE"] = "dpkg"
    outcome = docker_machine.run(f"scripts/{script}")
    assert outcome.code == 2
    assert outcome.error == (
        "error: /var/lib/dpkg belongs to something else: set WORKBENCH_INSTANCE to another name."
    )
    assert not outcome.changed


def test_a_taken_port_names_its_holder(machine: BareMachine) -> None:
    machine.files["/listen"] = (
        "use IO::Socket::INET; $| = 1;"
        "my $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 1); print 1, $/; sleep 60"
    )
    outcome = machine.run("exec 3< <(exec perl /listen); read -r <&3; scripts/up")
    assert outcome.code == 1
    assert re.fullmatch(
        r"error: Port 8000 is taken by perl \(process \d+\): "
        r"stop it, or set WORKBENCH_PORT to another port\.",
        outcome.error,
    ), outcome.error
    assert not outcome.changed


def test_a_purge_requires_the_name(docker_machine: BareMachine) -> None:
    outcome = docker_machine.run("echo yes | scripts/down --purge")
    assert outcome.code == 1
    assert outcome.error == 'error: Nothing was removed: the answer was not "workbench".'
    assert "This removes for good: 0 homes" in outcome.stdout
    assert not outcome.changed


def test_a_short_disk_is_seen_before_a_build(docker_machine: BareMachine) -> None:
    docker_machine.stub("df", "echo Avail; echo 3")
    outcome = docker_machine.run("scripts/up --no-simulate")
    assert outcome.code == 1
    assert_is_one_sentence(outcome.error)
    assert "3 GB free" in outcome.error
    assert not outcome.changed


@pytest.mark.parametrize(
    ("missing", "file"),
    [("WORKBENCH_TLS_CERTIFICATE", "/nowhere.pem"), ("WORKBENCH_TLS_KEY", "/etc")],
)
def test_a_missing_file_of_the_certificate(machine: BareMachine, missing: str, file: str) -> None:
    machine.environment |= {
        "WORKBENCH_TLS": "files",
        "WORKBENCH_PUBLIC_URL": "https://gpu.lab.test",
        "WORKBENCH_TLS_CERTIFICATE": "/etc/passwd",
        "WORKBENCH_TLS_KEY": "/etc/passwd",
        missing: file,
    }
    outcome = machine.run("scripts/up")
    sentence = f'error: {missing}="{file}" cannot be read: name a file in PEM form.'
    assert (outcome.code, outcome.error) == (2, sentence)
    assert not outcome.changed
