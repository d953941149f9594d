"""``workbench usage`` against a running hub: a table, JSON and CSV of the same."""

import csv
import io
import json

from tests.hub.hub_env import HubEnvironment
from tests.hub.shell import Shell
from tests.hub.usage import two_people_compute


async def test_hours_are_a_table_json_or_csv(hub_env: HubEnvironment, shell: Shell) -> None:
    await two_people_compute(hub_env)
    assert await shell.run("usage") == 0
    heads, *rows = [line.split() for line in shell.out.splitlines()]
    assert heads == ["USER", "HELD", "USED", "UNMEASURED"]
    assert [row[0] for row in rows] == ["alice", "bob", "total"]
    assert rows[0][1:3] == ["0.33", "0.08"]
    assert rows[1][2] == "-", "what nobody measured is not 0"
    assert await shell.run("usage", "--json") == 0
    assert [row["label"] for row in json.loads(shell.out)["rows"]] == ["alice", "bob"]
    assert await shell.run("usage", "--by", "group", "--csv") == 0
    table = [*csv.reader(io.StringIO(shell.out))]
    assert "vision" in {row[0] for row in table}


async def test_a_day_that_is_none_is_one_line(shell: Shell) -> None:
    assert await shell.run("usage", "--from", "yesterday") == 1
    assert shell.err.count("\n") == 1
