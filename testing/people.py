"""People: users with a browser session at the proxy of a process stack."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import httpx

from testing.eventually import eventually

URL = "http://127.0.0.1:8000"
_T = TypeVar("_T")


class Person:
    """Someone with a browser at the proxy."""

    def __init__(self, name: str) -> None:
        """Have no cookies."""
        self.name = name
        self.client = httpx.AsyncClient(base_url=URL, timeout=60)

    async def log_in(self) -> httpx.Response:
        """Log in as the login page does."""
        await self.client.get("/hub/login")
        form = {"username": self.name, "password": "any", "_xsrf": self._xsrf_token}
        return await self.client.post("/hub/login", data=form)

    @property
    def _xsrf_token(self) -> str:
        return str([c.value for c in self.client.cookies.jar if c.name == "_xsrf"][-1])

    async def api(self, method: str, path: str, json: object = None) -> httpx.Response:
        """Call the hub's REST API as this person's pages do."""
        headers = {"X-XSRFToken": self._xsrf_token, "Referer": f"{URL}/hub/home"}
        return await self.client.request(method, f"/hub/api{path}", json=json, headers=headers)

    async def request_server(self, **options: object) -> httpx.Response:
        """Ask for a server: 201 it runs, 202 it will, any other says why not."""
        return await self.api("POST", f"/users/{self.name}/server", options)

    async def start(self, **options: object) -> None:
        """Ask for a server and wait until it answers."""
        asked = await self.request_server(**options)
        assert asked.is_success, asked.text
        await eventually(self.is_ready, f"the server of {self.name} is ready")

    async def server(self) -> dict[str, Any] | None:
        """Return this person's server as the hub lists it."""
        answer = await self.api("GET", f"/users/{self.name}")
        servers: dict[str, dict[str, Any]] = answer.raise_for_status().json()["servers"]
        return servers.get("")

    async def wait_in_line(self) -> None:
        """Ask for a GPU when there is none, without waiting for the answer."""
        self._asking = asyncio.create_task(self.request_server(gpus=1))

        async def waits() -> bool:
            queue = (await self.api("GET", "/workbench/queue")).json()
            return bool(queue["waiting"])

        await eventually(waits, f"{self.name} waits")

    async def can_start(self, **options: object) -> bool:
        """Ask once more for a server, unless it runs, and return whether it does then."""
        if not await self.is_ready():
            asked = await self.request_server(**options)
            if not asked.is_success:
                return False
            await eventually(self.is_ready, f"the server of {self.name} is ready")
        return True

    async def is_ready(self) -> bool:
        """Return whether the hub says that the server answers."""
        server = await self.server()
        return server is not None and bool(server["ready"])

    async def stop(self) -> None:
        """Stop the server and wait until it is gone."""
        answer = await self.api("DELETE", f"/users/{self.name}/server")
        assert answer.is_success, answer.text

        async def is_gone() -> bool:
            return await self.server() is None

        await eventually(is_gone, f"the server of {self.name} is gone")

    async def visit(self) -> dict[str, str] | None:
        """Return who answers at this person's server, None for an error page or one of the hub's."""
        answer = await self.client.get(f"/user/{self.name}/lab")
        if answer.status_code != httpx.codes.OK:
            return None
        who: dict[str, str] = answer.json()
        return who
