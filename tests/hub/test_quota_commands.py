"""``workbench quota`` and ``trail`` against a running hub: tables, JSON, a file there and back."""

import json
from pathlib import Path

import pytest

from spawner.policy.quota_rows import DEFAULT, QuotaRow, group
from tests.hub.hub_env import HubEnvironment
from tests.hub.people import make_group
from tests.hub.quotas import put_quota
from tests.hub.servers import start
from tests.hub.shell import Shell


async def test_a_row_is_set_field_by_field_and_cleared(
    hub_env: HubEnvironment, shell: Shell
) -> None:
    make_group(hub_env, "vision")
    assert await shell.run("quota", "set", "group:vision", "--max-gpus", "2", "--reason", "x") == 0
    assert shell.out == "group:vision: max_gpus 2\n"
    assert await shell.run("quota", "set", "group:vision", "--total-gpus", "4") == 0
    assert hub_env.ledger.quota_rows() == {group("vision"): QuotaRow(max_gpus=2, total_gpus=4)}
    assert await shell.run("quota", "set", "group:vision", "--max-gpus", "none") == 0
    assert await shell.run("quota", "show", "group:vision", "--json") == 0
    assert json.loads(shell.out) == {"total_gpus": 4}
    assert await shell.run("quota", "clear", "group:vision", "--reason", "over") == 0
    assert hub_env.ledger.quota_rows() == {}
    assert await shell.run("quota", "show", "group:vision") == 0
    assert shell.out == "no field is set\n"


async def test_the_quota_of_a_user_is_reported_with_its_reasons(
    hub_env: HubEnvironment, shell: Shell
) -> None:
    make_group(hub_env, "vision", "alice")
    await put_quota(hub_env, "/groups/vision", max_gpus=1, gpu_hours=10, window_days=7)
    assert await shell.run("quota", "show", "user:alice") == 0
    assert "1 GPU at once: from group vision\n" in shell.out
    assert "holds or waits for 0 GPUs; 0 GPU-hours held, 10 left\n" in shell.out
    assert "refused now: You asked for 2 GPUs and hold or wait for 0, but" in shell.out
    assert await shell.run("quota", "show", "user:alice", "--json") == 0
    assert json.loads(shell.out)["quota"]["max_gpus"] == 1


async def test_all_rows_are_one_table(hub_env: HubEnvironment, shell: Shell) -> None:
    make_group(hub_env, "vision")
    await put_quota(hub_env, "/default", max_gpus=1, releases=["v2.7"])
    await put_quota(hub_env, "/groups/vision", gpu_hours=10.5, window_days=7)
    assert await shell.run("quota") == 0
    assert [line.split() for line in shell.out.splitlines()] == [
        ["SUBJECT", "GPUS", "GPU-HOURS", "DAYS", "LEASE-HOURS", "PRIORITY", "TOTAL", "RELEASES"],
        ["default", "1", "-", "-", "-", "-", "-", "v2.7"],
        ["group:vision", "-", "10.5", "7", "-", "-", "-", "-"],
    ]
    assert await shell.run("quota", "--json") == 0
    assert json.loads(shell.out)["quotas"]["default"] == {"max_gpus": 1, "releases": ["v2.7"]}


async def test_what_is_exported_is_applied_to_the_same(
    hub_env: HubEnvironment, shell: Shell, tmp_path: Path
) -> None:
    make_group(hub_env, 'vision "ü" [x]')
    hub_env.user("alice")
    await put_quota(hub_env, "/default", max_gpus=1, max_lease_hours=2.5, releases=["v2.7"])
    await put_quota(hub_env, "/groups/vision%20%22%C3%BC%22%20%5Bx%5D", total_gpus=4)
    await put_quota(hub_env, "/users/alice", priority=-1)
    before = hub_env.ledger.quota_rows()
    assert await shell.run("quota", "export") == 0
    file = tmp_path / "quotas.toml"
    file.write_text(shell.out)
    assert await shell.run("quota", "apply", str(file)) == 0
    assert shell.out == "Nothing changes.\n"
    hub_env.ledger.set_quotas({DEFAULT: None}, by="root", reason=None, now=1.0, whole=True)
    assert await shell.run("quota", "apply", str(file), "--yes", "--reason", "restored") == 0
    assert shell.out.endswith("Applied.\n")
    assert hub_env.ledger.quota_rows() == before
    assert {w.entry.reason for w in hub_env.ledger.trail(limit=3)} == {"restored"}


async def test_what_changes_is_shown_first_and_nothing_is_done_unasked(
    hub_env: HubEnvironment, shell: Shell, tmp_path: Path
) -> None:
    hub_env.user("alice")
    await put_quota(hub_env, "/default", max_gpus=1)
    await put_quota(hub_env, "/users/alice", priority=1)
    file = tmp_path / "quotas.toml"
    file.write_text("[default]\nmax_gpus = 2\ngpu_hours = 5\nwindow_days = 7\n")
    assert await shell.run("quota", "apply", str(file)) == 1
    assert set(shell.out.splitlines()) == {
        "~ default: max_gpus 1 → 2, gpu_hours none → 5, window_days none → 7",
        "- user alice: priority 1 → none",
    }
    assert shell.err == "Give --yes to apply this. Nothing was changed.\n"
    assert hub_env.ledger.quota_rows()[DEFAULT] == QuotaRow(max_gpus=1)


async def test_a_row_that_another_user_changed_after_it_was_shown_is_left_alone(
    hub_env: HubEnvironment, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_group(hub_env, "vision")
    file = tmp_path / "quotas.toml"
    file.write_text("[default]\nmax_gpus = 2\n")

    def change_before_saying_yes() -> bool:
        row = {group("vision"): QuotaRow(max_gpus=3)}
        hub_env.ledger.set_quotas(row, by="other", reason=None, now=1.0)
        return True

    monkeypatch.setattr("spawner.commands.quota._confirm", change_before_saying_yes)
    assert await shell.run("quota", "apply", str(file)) == 1
    assert shell.out == "+ default: max_gpus none → 2\n"
    assert shell.err.startswith("The quotas have changed since the dry run")
    assert hub_env.ledger.quota_rows() == {group("vision"): QuotaRow(max_gpus=3)}


async def test_a_date_in_a_file_is_one_line(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "quotas.toml"
    file.write_text("[default]\nmax_gpus = 2026-01-01\n")
    assert await shell.run("quota", "apply", str(file), "--yes") == 1
    assert shell.err == (
        "The row of default is not valid: max_gpus must be a whole number from 0 to 1024, or null.\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("quota", "set", "user:eve", "--max-gpus", "1"), "There is no user 'eve'"),
        (("quota", "set", "default", "--max-gpus", "-1"), "max_gpus must be a whole number"),
        (("quota", "set", "default"), "Give a field to set"),
        (("quota", "show", "alice"), "'alice' is no subject: give default, group:NAME"),
        (("quota", "apply", "/nowhere.toml"), "/nowhere.toml cannot be read"),
        (("trail", "--action", "x"), "There is no action 'x'"),
    ],
)
async def test_what_is_refused_is_one_line_and_no_success(
    shell: Shell, words: tuple[str, ...], said: str
) -> None:
    assert await shell.run(*words) == 1
    assert shell.err.startswith(said)
    assert shell.err.count("\n") == 1


async def test_without_a_token_the_scope_or_a_hub_it_reports_it(
    hub_env: HubEnvironment, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.log_in(hub_env, "alice")
    assert await shell.run("trail") == 1
    assert shell.err == "This needs the scope custom:workbench:read:trail.\n"
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://127.0.0.1:9/hub/api")
    assert await shell.run("quota") == 2
    assert shell.err.startswith("The hub at http://127.0.0.1:9/hub/api does not answer")
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN")
    assert await shell.run("quota") == 2
    assert shell.err.startswith("There is no token: make one")


async def test_the_trail_is_a_table_lines_or_csv(hub_env: HubEnvironment, shell: Shell) -> None:
    await put_quota(hub_env, "/default", max_gpus=1, reason="a paper")
    await put_quota(hub_env, "/default", max_gpus=2)
    assert await shell.run("trail", "--text", "PAPER") == 0
    heads, line = shell.out.splitlines()
    assert heads.split() == ["AT", "WHO", "WHAT", "TO", "WHY"]
    assert line.split()[1:] == ["root", "quota.changed", "default", "a", "paper"]
    await start(hub_env, "alice", {"gpus": 1})
    assert await shell.run("trail", "--action", "lease.granted") == 0
    assert "(alice, 1 GPU)" in shell.out.splitlines()[1]
    assert await shell.run("trail", "--actor", "root", "--json") == 0
    lines = [json.loads(line) for line in shell.out.splitlines()]
    assert [line["after"] for line in lines] == [{"max_gpus": 2}, {"max_gpus": 1}]
    assert await shell.run("trail", "--csv") == 0
    assert shell.out.splitlines()[0] == "id,at,actor,action,subject,before,after,reason"
    assert len(shell.out.splitlines()) == 4
