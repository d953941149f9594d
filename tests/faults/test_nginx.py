"""Behind nginx with the sample of the documentation: https, websockets, uploads, and unbuffered event streams."""

import asyncio
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tornado.web import RequestHandler

import spawner.hub.handlers.routes
from testing.certificates import Authority
from testing.eventually import eventually
from testing.paths import ROOT
from testing.people import URL
from testing.process_stack import ProcessStack
from tests.faults.conftest import audited

HOST = "gpu.lab.example"
SAMPLE = re.search(r"```nginx\n(.*?)```", (ROOT / "docs/tls.md").read_text(), re.DOTALL)
STREAMS = {
    "GpuStream": "workbench/gpus/stream",
    "SpawnProgressAPIHandler": "users/bob/server/progress",
}
EVENT_SECONDS = 5
MEGABYTE = 1024**2


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[ProcessStack]:
    settings = {"PUBLIC_URL": f"https://{HOST}", "TRUSTED_PROXIES": "127.0.0.1"}
    async with audited(ProcessStack(tmp_path, gpus=1, **settings)) as stack:
        stack.network.addresses[HOST] = "127.0.0.1"
        with nginx(tmp_path / "nginx"):
            yield stack


@contextmanager
def nginx(folder: Path) -> Iterator[None]:
    """Run nginx with the sample and a certificate of the test's own."""
    folder.mkdir()
    authority = Authority()
    pair = authority.issue(HOST)
    for name, pem in (
        ("ca", authority.pem),
        ("fullchain", pair.certificate),
        ("privkey", pair.key),
    ):
        (folder / f"{name}.pem").write_bytes(pem)
    assert SAMPLE
    servers = SAMPLE[1].replace(f"/etc/ssl/{HOST}", str(folder))
    (folder / "nginx.conf").write_text(
        f"daemon off; user root; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n{servers}}}"
    )
    command = ["setpriv", "--pdeathsig", "KILL", "nginx", "-c", f"{folder}/nginx.conf"]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.terminate()


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    """Answer as a user's server: echo on a socket, else the size of the body."""
    if "Upgrade" in request.headers:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(await socket.receive_bytes())
        return socket
    return web.json_response(request.content_length)


def event_streams() -> set[str]:
    """Return the names of all handlers of the hub that answer with an event stream."""
    assert spawner.hub.handlers.routes
    found, seen = set(), [RequestHandler]
    while seen:
        handler = seen.pop()
        seen.extend(handler.__subclasses__())
        method = vars(handler).get("get_content_type")
        if method is not None and "event-stream" in method.__code__.co_consts.__repr__():
            found.add(handler.__name__)
    return found


async def test_the_sample_passes_everything_on(stack: ProcessStack, tmp_path: Path) -> None:
    assert event_streams() == set(STREAMS)
    trust = ssl.create_default_context(cafile=tmp_path / "nginx/ca.pem")
    token = {"Authorization": stack.admin.headers["Authorization"]}
    stack.network.pages["alice"] = answer
    for name in ("alice", "bob"):
        assert (await stack.admin.post(f"users/{name}")).is_success
    assert (await stack.admin.post("users/alice/server", json={"gpus": 1})).is_success
    asking = asyncio.create_task(stack.admin.post("users/bob/server", json={"gpus": 1}))

    async def waits() -> bool:
        return bool((await stack.admin.get("users/bob")).json()["pending"] == "spawn")

    await eventually(waits, "bob waits")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        async with session.get(f"http://{HOST}/hub/login", allow_redirects=False) as moved:
            assert (moved.status, moved.headers["Location"]) == (308, f"https://{HOST}/hub/login")
        async with session.get(f"https://{HOST}/hub/login") as page:
            assert page.headers["Content-Encoding"] == "gzip"
            assert "; Secure" in page.headers["Set-Cookie"]
        for path in STREAMS.values():
            async with session.get(f"{URL}/hub/api/{path}", headers=token) as stream:
                assert stream.headers["X-Accel-Buffering"] == "no", path
            async with session.get(f"https://{HOST}/hub/api/{path}", headers=token) as stream:
                assert stream.headers["Content-Type"] == "text/event-stream"
                event = await asyncio.wait_for(stream.content.readuntil(b"data: "), EVENT_SECONDS)
                assert event, path
        server = f"https://{HOST}/user/alice"
        async with session.put(f"{server}/file", data=bytes(3 * MEGABYTE)) as upload:
            assert await upload.json() == 3 * MEGABYTE
        async with session.ws_connect(f"{server}/socket") as socket:
            await socket.send_bytes(b"ping")
            assert await socket.receive_bytes() == b"ping"
    assert (await stack.admin.delete("users/bob/server")).is_success
    await asking
