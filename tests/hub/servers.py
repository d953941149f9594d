"""Servers and their leases over REST, and the queue as the controller has it."""

import json
from functools import partial
from typing import Any

from spawner.model import Lease
from testing.eventually import eventually
from tests.hub.hub_env import HubEnvironment


async def start(hub_env: HubEnvironment, name: str, body: object = None) -> tuple[int, str]:
    async with hub_env.client(name) as client:
        answer = await client.post(f"/hub/api/users/{name}/server", json=body)
    message = answer.json()["message"] if answer.content else ""
    return answer.status_code, message


def server_url(server: str, resource: str) -> str:
    """Return the URL of ``resource`` of one of the client's own servers, "" being the default one."""
    place = f"servers/{server}" if server else "server"
    return f"/hub/api/workbench/{place}/{resource}"


async def stop(hub_env: HubEnvironment, name: str) -> int:
    async with hub_env.client(name) as client:
        return (await client.delete(f"/hub/api/users/{name}/server")).status_code


async def wait_in_queue(hub_env: HubEnvironment, *names: str, gpus: int = 1) -> None:
    for name in names:
        assert (await start(hub_env, name, {"gpus": gpus, "hours": 1}))[0] == 202
        await eventually(partial(is_queued, hub_env, name), f"{name} stands in line")


def is_queued(hub_env: HubEnvironment, name: str) -> bool:
    return name in queued_users(hub_env)


def queued_users(hub_env: HubEnvironment) -> list[str]:
    return [entry.lease.user for entry in hub_env.controller.queue()]


def lease_of(hub_env: HubEnvironment, name: str) -> Lease:
    (lease,) = [lease for lease in hub_env.live() if lease.user == name]
    return lease


async def read_lease(hub_env: HubEnvironment, name: str, server: str = "") -> dict[str, Any]:
    async with hub_env.client(name) as client:
        answer = await client.get(server_url(server, "lease"))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def extend(hub_env: HubEnvironment, name: str, body: object) -> tuple[int, dict[str, Any]]:
    async with hub_env.client(name) as client:
        answer = await client.post("/hub/api/workbench/server/lease", json=body)
    return answer.status_code, answer.json()


async def read_queue(
    hub_env: HubEnvironment, name: str, *, is_admin: bool = False
) -> dict[str, Any]:
    async with hub_env.client(name, is_admin=is_admin) as client:
        answer = await client.get("/hub/api/workbench/queue")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def follow_progress(hub_env: HubEnvironment, name: str) -> list[dict[str, Any]]:
    found = []
    async with (
        hub_env.client(name) as client,
        client.stream("GET", f"/hub/api/users/{name}/server/progress") as stream,
    ):
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
    return found
