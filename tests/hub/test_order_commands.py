"""``workbench line``, ``drain``, ``undrain``, ``end-lease`` and ``move`` against a running hub."""

import json

from spawner.model import Cause
from testing.eventually import eventually
from tests.hub.hub_env import HubEnvironment
from tests.hub.shell import Shell
from tests.hub.test_spawn import start
from tests.hub.test_wait import lease_of, line, wait_in_line

WHY = ("--reason", "the fan is loud")


async def test_gpus_are_drained_and_undrained(hub_env: HubEnvironment, shell: Shell) -> None:
    assert await shell.run("drain", "GPU-1", *WHY) == 0
    assert shell.out == "drain GPU-1: done\n"
    (drain,) = hub_env.ledger.drains()
    assert (drain.gpu_uuid, drain.by, drain.reason) == ("GPU-1", "root", "the fan is loud")
    assert await shell.run("drain", "GPU-1", *WHY) == 1
    assert shell.err == "GPU 1 is drained already.\n"
    assert await shell.run("undrain", "GPU-1", *WHY, "--json") == 0
    assert json.loads(shell.out)["done"] == "undrain"
    assert hub_env.ledger.drains() == ()


async def test_the_line_is_listed_and_people_in_it_are_moved_and_ended(
    hub_env: HubEnvironment, shell: Shell
) -> None:
    hub_env.be_brisk()
    await start(hub_env, "alice", {"gpus": 2})
    await wait_in_line(hub_env, "bob", "carol")
    assert await shell.run("line") == 0
    rows = [text.split() for text in shell.out.splitlines()]
    assert rows[0] == ["LEASE", "USER", "GPUS", "STATE", "WHEN"]
    assert [row[:4] for row in rows[1:]] == [
        [lease_of(hub_env, "alice").id, "alice", "2", "held"],
        [lease_of(hub_env, "bob").id, "bob", "1", "place"],
        [lease_of(hub_env, "carol").id, "carol", "1", "place"],
    ]
    carol = lease_of(hub_env, "carol").id
    assert await shell.run("move", carol, "first", *WHY) == 0
    await eventually(lambda: line(hub_env) == ["carol", "bob"], "carol is first")
    alice = lease_of(hub_env, "alice").id
    assert await shell.run("end-lease", alice, *WHY) == 0
    ended = hub_env.ledger.lease(alice)
    assert ended is not None
    assert ended.cause is Cause.ADMIN
    assert await shell.run("line", "--json") == 0
    assert "holders" in json.loads(shell.out)


async def test_orders_are_refused_in_one_line(hub_env: HubEnvironment, shell: Shell) -> None:
    shell.log_in(hub_env, "bob")
    assert await shell.run("drain", "GPU-1", *WHY) == 1
    assert shell.err == "This needs the scope custom:workbench:gpus.\n"
    assert await shell.run("end-lease", "../x", *WHY) == 1
    assert hub_env.ledger.drains() == ()
