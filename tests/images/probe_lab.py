"""Uses a Jupyter server as JupyterLab does: exports, deletes a folder, receives much output, shows TensorBoard.

It runs inside the server's container with the image's Python and prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse
from tornado.websocket import websocket_connect

SERVER = "http://127.0.0.1:8888"
HEADERS = {"Authorization": "token secret"}
SECONDS = 60
NOTEBOOK = {
    "type": "notebook",
    "content": {
        "cells": [{"cell_type": "markdown", "metadata": {}, "id": "a", "source": "# 标题"}],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    },
}
MUCH = "print('x' * 8_000_000)"
BOARD = "%load_ext tensorboard\n%tensorboard --logdir /tmp/none --reuse_port True"


async def request(path: str, method: str = "GET", body: object = None) -> HTTPResponse:
    """Return the answer of the server, refusals too."""
    return await AsyncHTTPClient().fetch(
        f"{SERVER}{path}",
        method=method,
        headers=HEADERS,
        body=None if method in ("GET", "DELETE") else json.dumps(body),
        raise_error=False,
        request_timeout=SECONDS,
    )


async def wait_until_open() -> None:
    """Wait until the server listens."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            await AsyncHTTPClient().fetch(f"{SERVER}/api")
        except (OSError, HTTPClientError):
            await asyncio.sleep(0.2)
        else:
            return


async def export() -> dict[str, int]:
    """Return the status of every export that is offered."""
    await request("/api/contents/n.ipynb", "PUT", NOTEBOOK)
    offered = json.loads((await request("/api/nbconvert")).body)
    return {name: (await request(f"/nbconvert/{name}/n.ipynb")).code for name in offered}


async def delete_folder() -> list[int]:
    """Return the statuses of making a folder with a file, deleting it, and asking for it."""
    file = {"type": "file", "format": "text", "content": "x"}
    steps = [
        await request("/api/contents/data", "PUT", {"type": "directory"}),
        await request("/api/contents/data/a.txt", "PUT", file),
        await request("/api/contents/data", "DELETE"),
        await request("/api/contents/data"),
    ]
    return [step.code for step in steps]


async def execute(code: str) -> list[dict[str, Any]]:
    """Return the messages of a new kernel that executes ``code``."""
    kernel = json.loads((await request("/api/kernels", "POST", {})).body)["id"]
    place = f"{SERVER.replace('http', 'ws')}/api/kernels/{kernel}/channels?token=secret"
    socket = await websocket_connect(place, max_message_size=2**26)
    header = {
        "msg_id": "1",
        "msg_type": "execute_request",
        "session": "s",
        "username": "u",
        "version": "5.3",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "allow_stdin": False,
        "user_expressions": {},
    }
    message = {
        "channel": "shell",
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
    }
    await socket.write_message(json.dumps({**message, "buffers": []}))
    received: list[dict[str, Any]] = []
    while True:
        raw = await asyncio.wait_for(socket.read_message(), SECONDS)
        if raw is None:
            return received
        received.append(json.loads(raw))
        last = received[-1]
        is_idle = last["content"].get("execution_state") == "idle"
        if is_idle and last["parent_header"].get("msg_id") == "1":
            return received


async def show_board() -> str:
    """Return the title of the page that ``%tensorboard`` shows, or what came instead."""
    messages = await execute(BOARD)
    html = "".join(
        str(one["content"]["data"].get("text/html", ""))
        for one in messages
        if one["msg_type"] in ("display_data", "update_display_data")
    )
    found = re.search(r"/proxy/[0-9]+/", html.replace("\\", ""))
    if found is None:
        return str([one["content"] for one in messages])
    page = (await request(found[0])).body.decode(errors="replace")
    title = re.search(r"<title>(.*?)</title>", page)
    return page[:200] if title is None else title[1]


async def main() -> None:
    """Print the answers."""
    await wait_until_open()
    much = await execute(MUCH)
    answers = {
        "exports": await export(),
        "delete": await delete_folder(),
        "output": sum(len(one["content"]["text"]) for one in much if one["msg_type"] == "stream"),
        "board": await show_board(),
    }
    sys.stdout.write(json.dumps(answers) + "\n")


asyncio.run(main())
