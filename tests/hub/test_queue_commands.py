"""``workbench queue``, ``lease`` and ``gpu drain`` against a running hub."""

import json

from spawner.model import Cause
from testing.eventually import eventually
from tests.hub.hub_env import HubEnvironment
from tests.hub.servers import lease_of, queued_users, start, wait_in_queue
from tests.hub.shell import Shell

WHY = ("--reason", "the fan is loud")


async def test_gpus_are_drained_and_undrained(hub_env: HubEnvironment, shell: Shell) -> None:
    assert await shell.run("gpu", "drain", "GPU-1", *WHY) == 0
    assert shell.out == "gpu drain GPU-1: done\n"
    (drain,) = hub_env.ledger.drains()
    assert (drain.gpu_uuid, drain.by, drain.reason) == ("GPU-1", "root", "the fan is loud")
    assert await shell.run("gpu", "drain", "GPU-1", *WHY) == 1
    assert shell.err == "GPU 1 is drained already.\n"
    assert await shell.run("gpu", "undrain", "GPU-1", *WHY, "--json") == 0
    assert json.loads(shell.out)["done"] == "gpu undrain"
    assert hub_env.ledger.drains() == ()


async def test_the_line_is_listed_and_people_in_it_are_moved_and_ended(
    hub_env: HubEnvironment, shell: Shell
) -> None:
    hub_env.be_brisk()
    await start(hub_env, "alice", {"gpus": 2})
    await wait_in_queue(hub_env, "bob", "carol")
    assert await shell.run("queue", "list") == 0
    rows = [text.split() for text in shell.out.splitlines()]
    assert rows[0] == ["LEASE", "USER", "GPUS", "STATE", "WHEN"]
    assert [row[:4] for row in rows[1:]] == [
        [lease_of(hub_env, "alice").id, "alice", "2", "held"],
        [lease_of(hub_env, "bob").id, "bob", "1", "position"],
        [lease_of(hub_env, "carol").id, "carol", "1", "position"],
    ]
    carol = lease_of(hub_env, "carol").id
    assert await shell.run("queue", "move", carol, "first", *WHY) == 0
    await eventually(lambda: queued_users(hub_env) == ["carol", "bob"], "carol is first")
    alice = lease_of(hub_env, "alice").id
    assert await shell.run("lease", "end", alice, *WHY) == 0
    ended = hub_env.ledger.lease(alice)
    assert ended is not None
    assert ended.cause is Cause.ADMIN
    assert await shell.run("queue", "--json") == 0
    assert "holders" in json.loads(shell.out)


async def test_orders_are_refused_in_one_line(hub_env: HubEnvironment, shell: Shell) -> None:
    shell.log_in(hub_env, "bob")
    assert await shell.run("gpu", "drain", "GPU-1", *WHY) == 1
    assert shell.err == "This needs the scope custom:workbench:gpus.\n"
    assert await shell.run("lease", "end", "../x", *WHY) == 1
    assert hub_env.ledger.drains() == ()


async def test_a_lease_list_has_no_waiting_requests(hub_env: HubEnvironment, shell: Shell) -> None:
    hub_env.be_brisk()
    await start(hub_env, "alice", {"gpus": 2})
    await wait_in_queue(hub_env, "bob")
    alice = lease_of(hub_env, "alice").id
    assert await shell.run("lease") == 0
    assert [text.split()[:4] for text in shell.out.splitlines()[1:]] == [
        [alice, "alice", "2", "held"]
    ]
    assert await shell.run("lease", "list", "--json") == 0
    assert [lease["lease"] for lease in json.loads(shell.out)["leases"]] == [alice]
