"""Which calls of the fake Docker Engine fail, and how each failure looks to its caller."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from enum import Enum

from aiohttp import web


class Fault(Enum):
    """The way in which a planned call fails."""

    ERROR = "500 without effect"
    HANG = "no answer, no effect, until released"
    LATE = "no answer and no effect until released, then both"
    GARBAGE = "200 with something that is not JSON"
    WRONG_SHAPE = "200 with JSON of another shape"
    PAGE_NOT_FOUND = "a 404 that is not about the container"
    DROP = "the connection is closed without an answer"


_Plan = tuple[Fault, asyncio.Event]


class Faults:
    """The planned faults, and the calls that hang; ``held`` lists these as (operation, subject)."""

    def __init__(self) -> None:
        """Plan nothing."""
        self.held: list[tuple[str, str]] = []
        self._planned: defaultdict[tuple[str, str | None], deque[_Plan]] = defaultdict(deque)
        self._released = asyncio.Event()

    def plan(self, operation: str, *faults: Fault, subject: str | None = None) -> None:
        """Let the next calls of ``operation`` (of one subject, or any) fail, one fault each."""
        if self._released.is_set():
            self._released = asyncio.Event()
        self._planned[operation, subject].extend((fault, self._released) for fault in faults)

    def forget(self) -> None:
        """Plan nothing any more."""
        self._planned.clear()

    def release(self) -> None:
        """Let every call go on that hangs, or that was planned to."""
        self._released.set()

    async def meet(self, operation: str, subject: str, request: web.Request) -> web.Response | None:
        """Act out what is planned for this call; None goes on as usual."""
        for key in ((operation, subject), (operation, None)):
            if self._planned[key]:
                fault, released = self._planned[key].popleft()
                if fault not in (Fault.HANG, Fault.LATE):
                    return _act_out(fault, request)
                self.held.append((operation, subject))
                await released.wait()
                self.held.remove((operation, subject))
                return error_response(500, "given up") if fault is Fault.HANG else None
        return None


def _act_out(fault: Fault, request: web.Request) -> web.Response:
    if fault is Fault.ERROR:
        return error_response(500, "something went wrong inside")
    if fault is Fault.GARBAGE:
        return web.Response(body=b"<html>not Docker", content_type="application/json")
    if fault is Fault.WRONG_SHAPE:
        return answer(["unexpected"])
    if fault is Fault.PAGE_NOT_FOUND:
        return error_response(404, "page not found")
    if request.transport is not None:
        request.transport.abort()
    return error_response(500, "never sent")


def answer(value: object, status: int = 200) -> web.Response:
    """Return ``value`` as the Engine's JSON."""
    return web.Response(
        status=status, body=json.dumps(value).encode(), content_type="application/json"
    )


def error_response(status: int, message: str) -> web.Response:
    """Return an error as the Engine words it."""
    return answer({"message": message}, status)
