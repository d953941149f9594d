"""JupyterLab: a real single-user server refuses a browser soon after the hub logged it out."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from testing.eventually import eventually
from testing.ports import free_port
from tests.hub.credentials import environment_of, make_credentials, post
from tests.hub.hub_env import HubEnvironment
from tests.hub.servers import lease_of


@asynccontextmanager
async def real_server(hub_env: HubEnvironment, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Run the command of alice's container with its variables; return a client without credentials."""
    port = free_port()
    home = folder / "home"
    home.mkdir()
    environment = {
        **environment_of(hub_env, "alice"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}/user/alice/",
        # the tests have no JupyterLab; the log-in belongs to its server
        "JUPYTERHUB_SINGLEUSER_APP": "jupyter_server.serverapp.ServerApp",
    }
    command: list[str] = hub_env.container(lease_of(hub_env, "alice")).body["Cmd"]
    with (folder / "server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, "--allow-root", env=environment, cwd=home, stdout=log, stderr=log
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/user/alice") as client:
            await eventually(lambda: is_up(client), "the server answers")
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def is_up(client: httpx.AsyncClient) -> bool:
    return (await client.get("/api")).status_code == 200


async def status_with(server: httpx.AsyncClient, token: str) -> int:
    return (
        await server.get("/api/contents", headers={"Authorization": f"token {token}"})
    ).status_code


@pytest.mark.parametrize(("cache_seconds", "is_refused"), [(1, True), (300, False)])
async def test_a_server_forgets_a_browser_that_was_logged_out(
    hub_env: HubEnvironment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache_seconds: int,
    is_refused: bool,
) -> None:
    monkeypatch.setattr("spawner.policy.container.LAB_CACHE_SECONDS", cache_seconds)
    async with hub_env.browser() as browser, hub_env.browser() as elsewhere:
        alice = await make_credentials(hub_env, browser, elsewhere)
        async with real_server(hub_env, tmp_path) as server:
            assert await status_with(server, alice.lab) == 200
            await post(browser, "/hub/change-password", "/hub/log-out-everywhere")
            await asyncio.sleep(1.5)
            assert (await status_with(server, alice.lab) == 403) is is_refused
