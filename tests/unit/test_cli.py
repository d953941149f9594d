"""The command ``workbench``: what it prints, and exit codes that a script can go by."""

import asyncio
import json

import pytest

from spawner import cli
from spawner.hub import configure
from tests.unit.audit_env import AuditEnvironment
from tests.unit.broker_env import INSTANCE, UUID


@pytest.fixture
def command(audit_env: AuditEnvironment, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("spawner.audit.rules.SETTLE_SECONDS", 0)
    monkeypatch.setenv("WORKBENCH_INSTANCE", INSTANCE)
    monkeypatch.setenv("WORKBENCH_FIRST_UID", str(audit_env.places.first_uid))
    monkeypatch.setenv("WORKBENCH_LEDGER_URL", audit_env.places.ledger_url)
    socket, hub = str(audit_env.places.docker_socket), audit_env.places.hub_database_url
    return ["audit", "run", "--no-network", "--socket", socket, "--hub-database", hub]


async def test_the_command_reports_clean(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(cli.main, command) == 0
    assert capsys.readouterr().out == "Clean: 1 containers, 2 leases, 1 homes, 1 servers.\n"


async def test_the_command_prints_one_line_per_finding(
    audit_env: AuditEnvironment, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    audit_env.run(audit_env.alice, name="wb-copy")
    audit_env.broker_env.engine.volumes.clear()
    assert await asyncio.to_thread(cli.main, command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"gpu_in_two_containers {UUID}",
        "container_without_lease wb-copy",
        f"home_missing {audit_env.home}",
    ]
    assert await asyncio.to_thread(cli.main, [*command, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() == {"findings", "looked_at", "error"}
    assert answer["error"] is None
    assert [f["subject"] for f in answer["findings"]] == [UUID, "wb-copy", audit_env.home]
    assert answer["looked_at"]["containers"] == 2


async def test_the_command_does_not_call_clean_what_it_did_not_see(
    audit_env: AuditEnvironment, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    audit_env.broker_env.socket_path.unlink()
    assert await asyncio.to_thread(cli.main, [*command, "--json"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("The audit is not possible: ")
    assert said.err.count("\n") == 1
    answer = json.loads(said.out)
    assert answer["looked_at"] is None
    assert answer["error"] in said.err


def test_a_wrong_setting_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKBENCH_INSTANS", "x")
    assert cli.main(["audit"]) == 2
    assert "did you mean WORKBENCH_INSTANCE?" in capsys.readouterr().err


def test_the_command_looks_where_the_hub_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["audit", "run", "--help"])
    text = "".join(capsys.readouterr().out.split())
    assert f"(default:{configure.DOCKER_SOCKET})" in text
    assert f"(default:{configure.HUB_DATABASE})" in text
