"""Stream on a real server: authorization, and independence from slow clients."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from conftest import ScriptedReader, eventually
from gpu_panel.message import SCHEMA
from gpu_panel.stream_handler import StreamHandler
from tornado.httpclient import HTTPClientError
from tornado.httputil import HTTPHeaders
from tornado.websocket import WebSocketClientConnection

PATH = ("gpu-panel", "stream")
Connect = Callable[..., Awaitable[WebSocketClientConnection]]
Fetch = Callable[..., Awaitable[Any]]


async def test_without_a_token_it_is_refused(jp_ws_fetch: Connect, reader: ScriptedReader) -> None:
    with pytest.raises(HTTPClientError) as refusal:
        await jp_ws_fetch(*PATH, headers={"Authorization": ""})
    assert refusal.value.code == 403
    assert reader.count == 0


async def test_another_origin_is_refused_even_with_the_login_cookie(
    jp_ws_fetch: Connect, jp_fetch: Fetch, reader: ScriptedReader, jp_http_port: int
) -> None:
    host = f"localhost:{jp_http_port}"
    headers = {"Authorization": "", "Cookie": await log_in(jp_fetch, host)}
    with pytest.raises(HTTPClientError) as refusal:
        await jp_ws_fetch(*PATH, headers={**headers, "Origin": "http://elsewhere.example"})
    assert refusal.value.code == 403
    assert reader.count == 0
    stream = await jp_ws_fetch(*PATH, headers={**headers, "Origin": f"http://{host}"})
    assert json.loads(str(await stream.read_message()))["schema"] == SCHEMA
    stream.close()


async def test_an_unauthorized_user_is_refused(
    jp_ws_fetch: Connect, jp_serverapp: Any, reader: ScriptedReader, monkeypatch: Any
) -> None:
    requests = []

    def refuse(handler: object, user: object, action: str, resource: str) -> bool:
        requests.append((action, resource))
        return False

    monkeypatch.setattr(jp_serverapp.authorizer, "is_authorized", refuse)
    with pytest.raises(HTTPClientError) as refusal:
        await jp_ws_fetch(*PATH)
    assert refusal.value.code == 403
    assert requests == [("read", "gpu-panel")]
    assert reader.count == 0


async def test_messages_arrive_until_the_socket_closes(
    jp_ws_fetch: Connect, reader: ScriptedReader
) -> None:
    stream = await jp_ws_fetch(*PATH)
    messages = [json.loads(str(await stream.read_message())) for _ in range(5)]
    stream.close()
    times = [message["sampled_at"] for message in messages]
    assert times == sorted(set(times))
    assert [len(message["gpus"]) for message in messages] == [2] * 5
    await eventually_quiet(reader)


async def test_twenty_sockets_share_one_sampler(
    jp_ws_fetch: Connect, reader: ScriptedReader
) -> None:
    streams = [await jp_ws_fetch(*PATH) for _ in range(20)]
    for stream in streams:
        await stream.read_message()
    before = reader.count
    for _ in range(10):
        await streams[0].read_message()
    # one reading per message of one client, independent of the number of clients
    assert reader.count - before <= 20
    for stream in streams:
        stream.close()
    await eventually_quiet(reader)


async def test_a_client_that_sends_is_disconnected(
    jp_ws_fetch: Connect, reader: ScriptedReader
) -> None:
    stream = await jp_ws_fetch(*PATH)
    await stream.write_message('{"period_seconds": 0.001}')
    while await stream.read_message() is not None:
        pass
    assert stream.close_code == 1003
    await eventually_quiet(reader)


async def test_a_client_that_does_not_read_delays_no_other(
    jp_ws_fetch: Connect,
    jp_auth_header: dict[str, str],
    jp_base_url: str,
    jp_http_port: int,
    reader: ScriptedReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader.gpus = 2000  # about 0.6 MB a message: the kernel's buffers fill at once
    offered: dict[int, int] = {}
    sent: dict[int, int] = {}
    deliver, send = StreamHandler.deliver, StreamHandler._send

    def count_offer(handler: StreamHandler, message: bytes) -> None:
        offered[id(handler)] = offered.get(id(handler), 0) + 1
        deliver(handler, message)

    async def count_send(handler: StreamHandler, message: bytes) -> None:
        sent[id(handler)] = sent.get(id(handler), 0) + 1
        await send(handler, message)

    monkeypatch.setattr(StreamHandler, "deliver", count_offer)
    monkeypatch.setattr(StreamHandler, "_send", count_send)
    with stalled_client(jp_base_url, jp_http_port, jp_auth_header):
        await eventually(lambda: len(offered) == 1)
        slow = next(iter(offered))
        stream = await jp_ws_fetch(*PATH, max_message_size=2**26)
        for _ in range(30):
            assert await asyncio.wait_for(stream.read_message(), 10) is not None
        stream.close()
        assert offered[slow] >= 30
        assert sent[slow] < offered[slow] / 2


def stalled_client(base_url: str, port: int, auth: dict[str, str]) -> socket.socket:
    """Return a socket that requested the stream and never reads it."""
    lines = [
        f"GET {base_url}gpu-panel/stream HTTP/1.1",
        f"Host: localhost:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        *(f"{key}: {value}" for key, value in auth.items()),
    ]
    client = socket.create_connection(("localhost", port))
    client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return client


async def eventually_quiet(reader: ScriptedReader) -> None:
    """Wait until the reader is no longer called."""
    seen = [-1]

    def is_quiet() -> bool:
        seen.append(reader.count)
        return len(seen) > 10 and len(set(seen[-10:])) == 1

    await eventually(is_quiet)


async def log_in(jp_fetch: Fetch, host: str) -> str:
    """Return the cookies of a logged-in browser."""
    answer = await jp_fetch("api", "status", headers={"Host": host})
    headers: HTTPHeaders = answer.headers
    return "; ".join(cookie.partition(";")[0] for cookie in headers.get_list("Set-Cookie"))
