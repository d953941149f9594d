"""The proxy filters the answers of users' servers, and passes their streams and websockets on as they come."""

import asyncio
import subprocess

import aiohttp
from aiohttp import web

from testing.paths import ROOT
from testing.people import URL
from testing.process_stack import ProcessStack

HOSTILE = {"Set-Cookie": "planted=1; Path=/", "Clear-Site-Data": '"*"'}


def test_the_modules_of_the_proxy() -> None:
    tests = sorted((ROOT / "images/hub/proxy").glob("*.test.mjs"))
    assert len(tests) >= 4
    subprocess.run(["node", "--test", *map(str, tests)], cwd=ROOT, check=True)


async def test_streams_and_websockets_pass_the_filter(stack: ProcessStack) -> None:
    more = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if "Upgrade" in request.headers:
            socket = web.WebSocketResponse()
            socket.headers.update(HOSTILE)
            await socket.prepare(request)
            await socket.send_bytes(await socket.receive_bytes())
            await socket.close()
            return socket
        stream = web.StreamResponse(headers=HOSTILE)
        await stream.prepare(request)
        await stream.write(b"first")
        await more.wait()
        await stream.write(b"second")
        return stream

    await stack.running("alice")
    stack.network.pages["alice"] = answer
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{URL}/user/alice/stream") as response:
            assert await response.content.readexactly(5) == b"first"
            more.set()
            assert await response.read() == b"second"
            assert not set(HOSTILE) & set(response.headers)
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        async with session.ws_connect(f"{URL}/user/alice/socket") as socket:
            assert not set(HOSTILE) & set(socket._response.headers)
            await socket.send_bytes(bytes(range(256)) * 1000)
            assert await socket.receive_bytes() == bytes(range(256)) * 1000


async def test_an_open_websocket_ends_with_the_right_to_open_one(stack: ProcessStack) -> None:
    status = [200]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if "Upgrade" not in request.headers:
            assert request.path == "/user/bob/api/status"
            assert request.headers["Cookie"] == "session=1"
            return web.Response(status=status[0])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    await stack.running("bob")
    stack.network.pages["bob"] = answer
    cookie = {"Cookie": "session=1"}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{URL}/user/bob/terminals/websocket/1", headers=cookie) as socket,
    ):
        for harmless in (200, 503):
            status[0] = harmless
            await asyncio.sleep(0.7)
            await socket.send_str("still here")
            assert (await socket.receive_str()) == "still here"
        status[0] = 403
        closed = await socket.receive(timeout=5)
        assert closed.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
