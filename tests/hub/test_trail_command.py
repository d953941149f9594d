"""``workbench trail follow`` prints each new entry once, over a hub that is silent for a while."""

import json
from typing import Any

import pytest

from spawner.commands.hub_client import HubClient
from spawner.ledger.trail import TrailAction, TrailEntry
from spawner.model import Unknown
from tests.hub.hub_env import HubEnvironment
from tests.hub.shell import Shell


def add(hub_env: HubEnvironment, reason: str) -> None:
    entry = TrailEntry(1.0, "root", TrailAction.GPU_DRAINED, "GPU-0", None, None, reason)
    hub_env.ledger.add_entry(entry)


async def test_new_entries_are_printed_as_they_come(
    hub_env: HubEnvironment, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, real = [0], HubClient.request

    def wait(_: float) -> None:
        rounds[0] += 1
        if rounds[0] == 1:
            add(hub_env, "first")
        elif rounds[0] == 3:
            add(hub_env, "second")
        elif rounds[0] == 5:
            raise KeyboardInterrupt

    def request(hub: HubClient, *given: Any, **more: Any) -> Any:
        if rounds[0] in (1, 2):
            raise Unknown("The hub is silent.")
        return real(hub, *given, **more)

    add(hub_env, "before")
    monkeypatch.setattr("spawner.commands.trail.time.sleep", wait)
    monkeypatch.setattr(HubClient, "request", request)
    assert await shell.run("trail", "follow") == 130
    assert [json.loads(line)["reason"] for line in shell.out.splitlines()] == ["first", "second"]
    assert shell.err.count("The hub is silent.") == 1

    rounds[0] = 4
    assert await shell.run("trail", "follow", "--after", "0") == 130
    reasons = [json.loads(line)["reason"] for line in shell.out.splitlines()]
    assert reasons == ["before", "first", "second"]


@pytest.mark.parametrize(
    "query", ["after=x", "after=-1", "after=0&actor=root", "after=0&format=csv"]
)
async def test_it_follows_the_whole_trail_only(hub_env: HubEnvironment, query: str) -> None:
    async with hub_env.client("root", is_admin=True) as client:
        answer = await client.get(f"/hub/api/workbench/trail?{query}")
    assert answer.status_code == 400
