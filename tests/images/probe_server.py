"""Asks a Jupyter server for a terminal and a kernel; runs inside its container with the image's Python.

It prints one JSON object: whether a terminal executes a command, and the ``sys.prefix`` of a kernel, or None.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.websocket import WebSocketClientConnection, websocket_connect

SERVER = "http://127.0.0.1:8888/api"
TOKEN = "?token=secret"
SECONDS = 30
EXECUTE = {
    "channel": "shell",
    "header": {
        "msg_id": "1",
        "msg_type": "execute_request",
        "session": "s",
        "username": "u",
        "version": "5.3",
    },
    "parent_header": {},
    "metadata": {},
    "content": {
        "code": "import sys; print(sys.prefix)",
        "silent": False,
        "allow_stdin": False,
        "store_history": False,
        "user_expressions": {},
    },
    "buffers": [],
}


async def request(path: str, **options: Any) -> Any:
    """Return the JSON that the server answers, as soon as it listens; None for a refusal or for no answer in time."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            answer = await AsyncHTTPClient().fetch(f"{SERVER}/{path}{TOKEN}", **options)
            return json.loads(answer.body)
        except HTTPClientError:
            return None
        except OSError:
            await asyncio.sleep(0.2)
    return None


async def read_until(
    socket: WebSocketClientConnection, extract: Callable[[Any], str | None]
) -> str | None:
    """Return what ``extract`` returns in the messages; None when they end or nothing is found in time."""
    end = time.monotonic() + SECONDS
    while (left := end - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(socket.read_message(), left)
        except TimeoutError:
            return None
        if message is None:
            return None
        if isinstance(message, str) and (found := extract(json.loads(message))):
            return found
    return None


async def check_terminal() -> bool:
    """Return whether a terminal executes a command."""
    opened = await request("terminals", method="POST", body="")
    if opened is None:
        return False
    place = f"{SERVER.replace('http', 'ws').replace('/api', '')}/terminals/websocket/{opened['name']}{TOKEN}"
    socket = await websocket_connect(place)
    await asyncio.sleep(0.5)  # a shell that ends at once loses what was typed
    await socket.write_message(json.dumps(["stdin", "echo ready-$((40+2))\r"]))
    seen: list[str] = []

    def extract(message: list[Any]) -> str | None:
        if message[0] == "stdout":
            seen.append(message[1])
        return "yes" if "ready-42" in "".join(seen) else None

    return await read_until(socket, extract) is not None


async def check_kernel() -> str | None:
    """Return the ``sys.prefix`` of a kernel."""
    started = await request("kernels", method="POST", body="{}", request_timeout=SECONDS)
    if started is None:
        return None
    place = f"{SERVER.replace('http', 'ws')}/kernels/{started['id']}/channels{TOKEN}"
    try:
        socket = await websocket_connect(place)
    except HTTPClientError:  # the kernel ended
        return None
    await socket.write_message(json.dumps(EXECUTE))

    def extract(message: dict[str, Any]) -> str | None:
        return (
            str(message["content"]["text"]).strip() if message.get("msg_type") == "stream" else None
        )

    return await read_until(socket, extract)


async def main() -> None:
    """Print the answers."""
    if await request("status") is None:
        answers: dict[str, bool | str | None] = {"terminal": False, "kernel": None}
    else:
        answers = {"terminal": await check_terminal(), "kernel": await check_kernel()}
    sys.stdout.write(json.dumps(answers) + "\n")


asyncio.run(main())
