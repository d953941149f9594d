"""Another process has a database for itself for 10 s: the answer says when to come again, and all goes on after it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from spawner.model import LeaseState
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from testing.people import Person
from testing.process_stack import ProcessStack

LOCKED_SECONDS = 10.0
HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Let another process have the database for itself."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            process.stdin.close()


def require_retry_later(answer: httpx.Response, sentence: str) -> None:
    """Require a 503 with one sentence and a time."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert sentence in answer.text


async def request_everything(alice: Person, bob: Person) -> list[httpx.Response]:
    """Request all that needs a database, as a user with a server and as a user without one."""
    return list(
        await asyncio.gather(
            alice.client.get("/hub/home"),
            alice.client.get("/hub/queue"),
            alice.api("GET", "/workbench/queue"),
            alice.api("GET", "/workbench/server/lease"),
            alice.api("POST", "/workbench/server/lease", {"hours": 1}),
            bob.client.get("/hub/spawn"),
            bob.request_server(gpus=1),
        )
    )


async def still_there(stack: ProcessStack, alice: Person, container: str) -> None:
    assert (await alice.visit() or {})["container"] == container
    assert await alice.is_ready()
    assert stack.lease("alice").state is LeaseState.RUNNING
    assert stack.done_to(stack.container("alice")) == ["create", "start"]


async def held_at_create(stack: ProcessStack, person: Person) -> asyncio.Task[httpx.Response]:
    """Let a spawn come as far as Docker's creation of a container."""
    stack.engine.plan("create", Fault.LATE)
    asking = asyncio.create_task(person.request_server(gpus=0))
    await eventually(lambda: stack.engine.faults.held, "Docker creates a container")
    return asking


async def test_the_ledger_is_locked(stack: ProcessStack) -> None:
    alice, bob, cyd = (
        await stack.running("alice"),
        await stack.person("bob"),
        await stack.person("cyd"),
    )
    container = stack.container("alice").name
    asking = await held_at_create(stack, cyd)
    with locked(stack.folder / "data/ledger.sqlite"):
        until = asyncio.get_running_loop().time() + LOCKED_SECONDS
        require_retry_later(await bob.request_server(gpus=1), "The ledger cannot be reached")
        stack.engine.release()
        answers = await request_everything(alice, bob)
        await asyncio.sleep(until - asyncio.get_running_loop().time())
    for answer in answers:
        # a late request may find the database unlocked
        if answer.status_code >= 400:
            require_retry_later(answer, "The ledger cannot be reached")
    if (await asking).status_code >= 400:
        require_retry_later(await asking, "The ledger cannot be read")
    await eventually(lambda: bob.can_start(gpus=1), "spawns are admitted again")
    await eventually(lambda: cyd.can_start(gpus=0), "one that failed left nothing behind")
    await still_there(stack, alice, container)


async def test_the_hubs_own_database_is_locked(stack: ProcessStack) -> None:
    alice, bob = await stack.running("alice"), await stack.person("bob")
    container = stack.container("alice").name
    with locked(stack.folder / "data/jupyterhub.sqlite"):
        for answer in await request_everything(alice, bob):
            require_retry_later(answer, "database is busy")
        assert (await alice.visit() or {})["container"] == container
        await asyncio.sleep(LOCKED_SECONDS)
    await bob.start(gpus=1)
    await still_there(stack, alice, container)


async def test_a_spawn_under_way_waits_for_the_hubs_database(stack: ProcessStack) -> None:
    alice, bob = await stack.running("alice"), await stack.running("bob")
    container = stack.container("alice").name
    await bob.stop()  # his home is prepared
    asking = await held_at_create(stack, bob)
    with locked(stack.folder / "data/jupyterhub.sqlite"):
        stack.engine.release()
        await eventually(lambda: len(stack.engine.containers) == 2, "his container is made")
        await asyncio.sleep(LOCKED_SECONDS)
    assert (await asking).is_success
    await eventually(bob.is_ready, "his server is ready")
    await still_there(stack, alice, container)
