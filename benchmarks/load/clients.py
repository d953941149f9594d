"""Clients: each browser logs in, fills in the form, watches its start as the page does, and opens the server.

A process of its own, so that neither the hub nor the faked Docker waits for it. Static files are not loaded.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
from yarl import URL

HUB = "http://127.0.0.1:8000"
READY_SECONDS = 600.0


@dataclass(frozen=True)
class Plan:
    """Plan: the users, their rate of arrival, and their request.

    ``per_second`` None is all at once. ``gpus`` None only logs in. ``watches_queue``: those who have to wait keep
    their page open until stdin ends. Without ``fills_form`` they ask through the REST API.
    """

    names: list[str]
    per_second: float | None
    gpus: int | None
    watches_queue: bool = False
    fills_form: bool = True
    password: str = "any"  # noqa: S105 - the dummy authenticator's


@dataclass
class Visit:
    """The record of one user: seconds since the click; None means that the step was not reached."""

    name: str
    log_in_seconds: float | None = None
    form_seconds: float | None = None
    queued_seconds: float | None = None
    ready_seconds: float | None = None
    statuses: list[int] = field(default_factory=list)
    trouble: str | None = None


class Browser:
    """One person at the proxy."""

    def __init__(self, name: str, plan: Plan, connector: aiohttp.BaseConnector) -> None:
        """Have no cookies."""
        self.visit = Visit(name)
        self.settled = asyncio.Event()
        self._plan = plan
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            timeout=aiohttp.ClientTimeout(total=READY_SECONDS),
        )

    async def come(self) -> None:
        """Do everything; what goes wrong is noted."""
        try:
            async with self._session, asyncio.timeout(READY_SECONDS):
                await self._log_in()
                if self._plan.gpus is not None:
                    await self._start()
        except (aiohttp.ClientError, TimeoutError, AssertionError, LookupError) as error:
            self.visit.trouble = f"{type(error).__name__}: {error}"[:300]
        finally:
            self.settled.set()

    async def _log_in(self) -> None:
        async with self._request("GET", "/hub/login"):
            pass
        began = time.monotonic()
        form = {"username": self.visit.name, "password": self._plan.password, "_xsrf": self._xsrf}
        async with self._request("POST", "/hub/login", data=form, allow_redirects=False) as answer:
            assert answer.status == 302, f"log-in answered {answer.status}"
        self.visit.log_in_seconds = time.monotonic() - began

    async def _start(self) -> None:
        if self._plan.fills_form:
            began = time.monotonic()
            async with self._request("GET", "/hub/spawn") as answer:
                assert 'name="gpus"' in await answer.text(), "no form"
            self.visit.form_seconds = time.monotonic() - began
        clicked = time.monotonic()
        pending = await (self._click() if self._plan.fills_form else self._call())
        if pending is not None:
            async with self._request("GET", pending):
                pass
            if not await self._watch(clicked):
                return
        await self._open()
        self.visit.ready_seconds = time.monotonic() - clicked

    async def _click(self) -> str | None:
        """Send the form; return the page that shows the start, None where the server is ready already."""
        form = {"gpus": str(self._plan.gpus), "release": "v2.7", "hours": "8", "_xsrf": self._xsrf}
        async with self._request("POST", "/hub/spawn", data=form, allow_redirects=False) as answer:
            assert answer.status == 302, f"start answered {answer.status}"
            to = answer.headers["Location"]
        return to if "/spawn-pending/" in to else None

    async def _call(self) -> str | None:
        path = f"/hub/api/users/{self.visit.name}/server"
        headers = {"X-XSRFToken": self._xsrf, "Referer": f"{HUB}/hub/home"}
        wish = {"gpus": self._plan.gpus}
        async with self._request("POST", path, json=wish, headers=headers) as answer:
            assert answer.status in (201, 202), f"start answered {answer.status}"
        return None if answer.status == 201 else f"/hub/spawn-pending/{self.visit.name}"

    async def _watch(self, clicked: float) -> bool:
        """Follow the progress; return whether the server is ready."""
        path = f"/hub/api/users/{self.visit.name}/server/progress?_xsrf={self._xsrf}"
        async with self._request("GET", path) as answer:
            async for line in answer.content:
                if not line.startswith(b"data:"):
                    continue
                event = json.loads(line[5:])
                assert not event.get("failed"), event["message"]
                if event.get("ready"):
                    return True
                if "waiting" in event:
                    self.visit.queued_seconds = time.monotonic() - clicked
                    if not self._plan.watches_queue:
                        return False
                    self.settled.set()
        return False

    async def _open(self) -> None:
        async with self._request("GET", f"/user/{self.visit.name}/lab") as answer:
            who = await answer.json()
            assert who["user"] == self.visit.name, f"reached {who}"

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        **options: Any,  # noqa: ANN401 - aiohttp's own
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._session.request(method, URL(HUB).join(URL(path)), **options) as answer:
            self.visit.statuses.append(answer.status)
            yield answer

    @property
    def _xsrf(self) -> str:
        return self._session.cookie_jar.filter_cookies(URL(f"{HUB}/hub/"))["_xsrf"].value


async def run(plan: Plan) -> None:
    """Run all browsers, print their records as one line of JSON, and keep the pages open until stdin ends."""
    async with aiohttp.TCPConnector(limit=0, force_close=False) as connector:
        browsers = [Browser(name, plan, connector) for name in plan.names]
        began = time.monotonic()
        tasks = []
        for number, browser in enumerate(browsers):
            if plan.per_second is not None:
                await asyncio.sleep(began + number / plan.per_second - time.monotonic())
            tasks.append(asyncio.create_task(browser.come()))
        for browser in browsers:
            await browser.settled.wait()
        seconds = time.monotonic() - began
        print(json.dumps({"seconds": seconds, "visits": [asdict(b.visit) for b in browsers]}))
        sys.stdout.flush()
        if plan.watches_queue:
            await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(run(Plan(**json.loads(sys.argv[1]))))
