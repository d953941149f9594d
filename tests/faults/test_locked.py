"""Another process locks a database: the answer is a 503 that says when to come again."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.test_docker_fails import running
from tests.faults.town import Town, eventually

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Let another process hold the database for itself."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            process.stdin.close()


@pytest.mark.parametrize("database", ["ledger", "jupyterhub"])
async def test_a_locked_database(town: Town, database: str) -> None:
    alice = await running(town, "alice")
    bob = await town.person("bob")
    with locked(town.folder / f"data/{database}.sqlite"):
        tasks = [asyncio.create_task(x) for x in (
            bob.ask(gpus=1),
            bob.client.get("/hub/workbench/line"),
            bob.client.get("/hub/line"),
            bob.client.get("/hub/home"),
            bob.client.get("/hub/spawn"),
            bob.api("GET", "/workbench/line"),
            bob.api("GET", "/users/bob"),
            alice.api("GET", "/workbench/lease/"),
            alice.api("POST", "/workbench/lease/", {"hours": 1}),
            alice.api("DELETE", "/users/alice/server"),
            alice.client.get("/user/alice/lab"),
        )]
        t = time.time()
        for task in asyncio.as_completed(tasks):
            a = await task
            print(round(time.time()-t,1), a.request.method, a.request.url.path, a.status_code, a.headers.get("retry-after"), a.text[:100] if "html" not in a.headers.get("content-type","") else "", flush=True)
    print(await bob.server(), await alice.server())
    await eventually(alice.visit, "")
