"""How much the hub adds to a start: click-to-Lab through the hub ÷ the same container started by hand.

``python -m benchmarks.spawn [--rounds 7]`` brings up an instance of its own. Both sides end at the first 200 for
``/user/<name>/lab`` with the user's token; both use homes that exist already; the sides alternate within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass
from typing import Any

import aiodocker
import httpx

from spawner.policy.container import PORT
from testing.stack import Person, Stack, running_stack

POLL_SECONDS = 0.025
AT_ONCE = 10


@dataclass(frozen=True)
class Researcher:
    """One user, their token and the create body of their container."""

    name: str
    token: str
    body: dict[str, Any]


async def main() -> None:
    """Measure alone and ten at once, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds: int = parser.parse_args().rounds
    with running_stack("wbbench", gpus=AT_ONCE) as stack:
        async with aiodocker.Docker() as docker:
            people = [stack.person(f"bench{i}") for i in range(AT_ONCE)]
            researchers = [await prepare(stack, docker, person) for person in people]
            print(
                f"{'':12} {'hub s':>8} {'bare s':>8} {'ratio':>7} {'worst':>7}   ({rounds} rounds)"
            )
            for title, group in (("alone", researchers[:1]), ("ten at once", researchers)):
                await compare(title, group, stack, docker, rounds)


async def prepare(stack: Stack, docker: aiodocker.Docker, person: Person) -> Researcher:
    """Start and stop once: makes the home and shows the container's create body."""
    token = person.api("POST", f"/users/{person.name}/tokens", {}).json()["token"]
    assert person.start(gpus=1).is_success
    (name,) = stack.containers(person.name)
    shown = await docker.containers.container(name).show()
    kept = ("Image", "Cmd", "Entrypoint", "Env", "User", "WorkingDir", "Hostname", "ExposedPorts")
    body = {key: shown["Config"][key] for key in kept}
    body["HostConfig"] = shown["HostConfig"]
    person.stop()
    return Researcher(person.name, token, body)


async def compare(
    title: str, group: list[Researcher], stack: Stack, docker: aiodocker.Docker, rounds: int
) -> None:
    """Print the medians of both sides and of their ratios."""
    hub: list[float] = []
    bare: list[float] = []
    ratios: list[float] = []
    for _ in range(rounds):
        through_hub = await asyncio.gather(*(start_through_hub(r, stack) for r in group))
        await asyncio.gather(*(stop_through_hub(r, stack) for r in group))
        by_hand = await asyncio.gather(*(start_by_hand(r, docker) for r in group))
        hub.append(statistics.median(through_hub))
        bare.append(statistics.median(by_hand))
        ratios.append(hub[-1] / bare[-1])
    middle = statistics.median
    print(
        f"{title:12} {middle(hub):8.2f} {middle(bare):8.2f} {middle(ratios):7.2f} {max(ratios):7.2f}"
    )


async def start_through_hub(researcher: Researcher, stack: Stack) -> float:
    """Return the seconds from the click to the first 200 of Lab, watching progress as the page does."""
    headers = {"Authorization": f"token {researcher.token}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=120) as client:
        begin = time.monotonic()
        server = f"/hub/api/users/{researcher.name}/server"
        answer = await client.post(server, json={"gpus": 1})
        assert answer.is_success, answer.text
        async with client.stream("GET", f"{server}/progress") as events:
            async for line in events.aiter_lines():
                if line.startswith("data:") and json.loads(line[5:]).get("ready"):
                    break
        await first_lab(client, researcher)
        return time.monotonic() - begin


async def stop_through_hub(researcher: Researcher, stack: Stack) -> None:
    """Stop the server and wait until its container is gone."""
    headers = {"Authorization": f"token {researcher.token}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=120) as client:
        await client.delete(f"/hub/api/users/{researcher.name}/server")
        while await asyncio.to_thread(stack.containers, researcher.name):
            await asyncio.sleep(0.1)


async def start_by_hand(researcher: Researcher, docker: aiodocker.Docker) -> float:
    """Return the seconds from ``docker run`` of the same container to the first 200 of Lab."""
    begin = time.monotonic()
    container = await docker.containers.create(researcher.body)
    try:
        await container.start()
        networks = (await container.show())["NetworkSettings"]["Networks"]
        address = next(iter(networks.values()))["IPAddress"]
        headers = {"Authorization": f"token {researcher.token}"}
        url = f"http://{address}:{PORT}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            await first_lab(client, researcher)
        return time.monotonic() - begin
    finally:
        await container.delete(force=True)


async def first_lab(client: httpx.AsyncClient, researcher: Researcher) -> None:
    """Ask for Lab every 25 ms until it answers 200."""
    while True:
        try:
            answer = await client.get(f"/user/{researcher.name}/lab")
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code == httpx.codes.OK:
            return
        await asyncio.sleep(POLL_SECONDS)


asyncio.run(main())
