"""``workbench line``, ``drain``, ``undrain``, ``end-lease`` and ``move`` against a running hub."""

import json

from spawner.model import Cause
from tests.hub.shell import Shell
from tests.hub.test_spawn import start
from tests.hub.test_wait import lease_of, line, wait_in_line
from tests.hub.town import Town, eventually

WHY = ("--reason", "the fan is loud")


async def test_gpus_are_drained_and_undrained(town: Town, shell: Shell) -> None:
    assert await shell.run("drain", "GPU-1", *WHY) == 0
    assert shell.out == "drain GPU-1: done\n"
    (drain,) = town.ledger.drains()
    assert (drain.gpu_uuid, drain.by, drain.reason) == ("GPU-1", "root", "the fan is loud")
    assert await shell.run("drain", "GPU-1", *WHY) == 1
    assert shell.err == "GPU 1 is drained already.\n"
    assert await shell.run("undrain", "GPU-1", *WHY, "--json") == 0
    assert json.loads(shell.out)["done"] == "undrain"
    assert town.ledger.drains() == ()


async def test_the_line_is_listed_and_people_in_it_are_moved_and_ended(
    town: Town, shell: Shell
) -> None:
    town.be_brisk()
    await start(town, "alice", {"gpus": 2})
    await wait_in_line(town, "bob", "carol")
    assert await shell.run("line") == 0
    rows = [text.split() for text in shell.out.splitlines()]
    assert rows[0] == ["LEASE", "USER", "GPUS", "STATE", "WHEN"]
    assert [row[:4] for row in rows[1:]] == [
        [lease_of(town, "alice").id, "alice", "2", "held"],
        [lease_of(town, "bob").id, "bob", "1", "place"],
        [lease_of(town, "carol").id, "carol", "1", "place"],
    ]
    carol = lease_of(town, "carol").id
    assert await shell.run("move", carol, "first", *WHY) == 0
    await eventually(lambda: line(town) == ["carol", "bob"], "carol is first")
    alice = lease_of(town, "alice").id
    assert await shell.run("end-lease", alice, *WHY) == 0
    ended = town.ledger.lease(alice)
    assert ended is not None
    assert ended.cause is Cause.ADMIN
    assert await shell.run("line", "--json") == 0
    assert "holders" in json.loads(shell.out)


async def test_orders_are_refused_in_one_line(town: Town, shell: Shell) -> None:
    shell.log_in(town, "bob")
    assert await shell.run("drain", "GPU-1", *WHY) == 1
    assert shell.err == "This needs the scope custom:workbench:gpus.\n"
    assert await shell.run("end-lease", "../x", *WHY) == 1
    assert town.ledger.drains() == ()
