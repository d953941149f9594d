"""Docker Engine: a fake whose every call can fail on demand.

It answers like the real one (paths, statuses, sentences) wherever no fault is planned; nothing is
ever really run.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from testing.fakes.docker_container import NEVER, STARTED, FakeContainer
from testing.fakes.docker_events import Events
from testing.fakes.docker_faults import Fault, Faults
from testing.fakes.docker_faults import answer as _answer
from testing.fakes.docker_faults import error_response as _error


class FakeEngine:
    """Containers in a dictionary, served on a unix socket; use as an async context manager.

    ``calls`` lists every request as (operation, subject as asked). A started container whose role is not
    "server" ends at once with ``exit_code``, having written ``log``. ``on_run`` and ``on_end`` are
    called with every container that begins or ceases to run; ``date`` says when a start was.
    """

    def __init__(self, socket_path: Path) -> None:
        """Plan nothing, know no image."""
        self.socket_path = socket_path
        self.root = "/var/lib/docker"
        self.images: dict[str, str] = {}
        self.containers: dict[str, FakeContainer] = {}
        self.calls: list[tuple[str, str]] = []
        self.exit_code = 0
        self.log: list[str] = []
        self.volumes: dict[str, dict[str, str] | None] = {}
        self.usage: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.events = Events()
        self.faults = Faults()
        self.date: Callable[[], str] = lambda: STARTED
        self.on_run: Callable[[FakeContainer], None] = lambda _: None
        self.on_end: Callable[[FakeContainer], None] = lambda _: None
        self._born = 0

    def plan(self, operation: str, *faults: Fault, subject: str | None = None) -> None:
        """Let the next calls of ``operation`` (of one container, or any) fail, one fault each."""
        self.faults.plan(operation, *faults, subject=subject)

    def forget(self) -> None:
        """Plan nothing any more."""
        self.faults.forget()

    def release(self) -> None:
        """Let every call go on that hangs, or that was planned to."""
        self.faults.release()

    def add(self, name: str, body: dict[str, Any], *, is_running: bool) -> FakeContainer:
        """Add a container that was not created through the socket."""
        self._born += 1
        started_at = STARTED if is_running else NEVER
        container = FakeContainer(f"{self._born:064x}", name, body, is_running, started_at)
        self.containers[name] = container
        return container

    def run(self, name: str) -> None:
        """Let a container run, as a start does; by hand, after its end, it is a restart."""
        container = self.containers[name]
        container.is_running, container.oom_killed = True, False
        container.started_at = self.date()
        self.on_run(container)

    def end(self, name: str, exit_code: int, *, oom: bool = False) -> None:
        """Let a running container end by itself, or by the kernel at its memory limit."""
        container = self.containers[name]
        container.is_running, container.exit_code = False, exit_code
        self.on_end(container)
        if oom:
            container.oom_killed = True
            self._publish("oom", container)
        self._publish("die", container)

    def vanish(self, name: str) -> None:
        """Let a container be removed by hand, by force."""
        if self.containers[name].is_running:
            self.end(name, 137)
        self._publish("destroy", self.containers.pop(name))

    async def __aenter__(self) -> FakeEngine:
        """Listen."""
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening."""
        await self.hang_up()

    async def listen(self) -> None:
        """Let the daemon be up."""
        app = web.Application()
        prefix = "/{version:v1\\.\\d+}"
        app.add_routes(
            [
                web.get(f"{prefix}/_ping", self._ping),
                web.get(f"{prefix}/info", self._info),
                web.get(f"{prefix}/images/{{subject:.+}}/json", self._image),
                web.get(f"{prefix}/containers/json", self._list),
                web.get(f"{prefix}/events", self._events),
                web.get(f"{prefix}/volumes", self._volumes),
                web.get(f"{prefix}/volumes/{{subject}}", self._volume),
                web.delete(f"{prefix}/volumes/{{subject}}", self._delete_volume),
                web.get(f"{prefix}/system/df", self._disk_use),
                web.post(f"{prefix}/containers/create", self._create),
                web.get(f"{prefix}/containers/{{subject}}/json", self._inspect),
                web.get(f"{prefix}/containers/{{subject}}/logs", self._logs),
                web.post(f"{prefix}/containers/{{subject}}/start", self._start),
                web.post(f"{prefix}/containers/{{subject}}/stop", self._stop),
                web.post(f"{prefix}/containers/{{subject}}/wait", self._wait),
                web.delete(f"{prefix}/containers/{{subject}}", self._delete),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket_path)).start()

    async def hang_up(self) -> None:
        """Let the daemon be down, and its containers go on; hanging calls end."""
        self.release()
        self.events.cut()
        await self._runner.cleanup()

    async def _fail(self, operation: str, request: web.Request) -> web.Response | None:
        """Note the call and act out the fault planned for it; None goes on as usual."""
        asked = request.match_info.get("subject") or request.query.get("name", "")
        self.calls.append((operation, asked))
        subject = next((c.name for c in self.containers.values() if c.id == asked), asked)
        return await self.faults.meet(operation, subject, request)

    async def _reach(self, operation: str, request: web.Request) -> FakeContainer | web.Response:
        fault = await self._fail(operation, request)
        if fault is not None:
            return fault
        subject = request.match_info["subject"]
        for container in self.containers.values():
            if subject in (container.name, container.id):
                return container
        return _error(404, f"No such container: {subject}")

    async def _ping(self, request: web.Request) -> web.Response:
        fault = await self._fail("ping", request)
        return web.Response(text="OK") if fault is None else fault

    async def _info(self, request: web.Request) -> web.Response:
        fault = await self._fail("info", request)
        return _answer({"DockerRootDir": self.root}) if fault is None else fault

    async def _image(self, request: web.Request) -> web.Response:
        fault = await self._fail("image", request)
        if fault is not None:
            return fault
        tag = request.match_info["subject"]
        if tag not in self.images:
            return _error(404, f"No such image: {tag}")
        return _answer({"Id": self.images[tag]})

    async def _list(self, request: web.Request) -> web.Response:
        fault = await self._fail("list", request)
        if fault is not None:
            return fault
        wanted = json.loads(request.query.get("filters", "{}")).get("label", [])
        everyone = request.query.get("all") in ("1", "true")
        rows = []
        for container in self.containers.values():
            labels = container.body.get("Labels") or {}
            if all(f"{k}={labels.get(k)}" == w for w in wanted for k in [w.partition("=")[0]]) and (
                everyone or container.is_running
            ):
                rows.append(
                    {
                        "Id": container.id,
                        "Names": [f"/{container.name}"],
                        "Labels": labels,
                        "State": container.state,
                    }
                )
        return _answer(rows)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        fault = await self._fail("events", request)
        return await self.events.serve(request) if fault is None else fault

    async def _volume(self, request: web.Request) -> web.Response:
        fault = await self._fail("volume", request)
        if fault is not None:
            return fault
        name = request.match_info["subject"]
        if name not in self.volumes:
            return _error(404, f"get {name}: no such volume")
        return _answer({"Name": name, "Driver": "local", "Labels": self.volumes[name]})

    async def _volumes(self, request: web.Request) -> web.Response:
        fault = await self._fail("volumes", request)
        if fault is not None:
            return fault
        wanted = json.loads(request.query.get("filters", "{}")).get("label", [])
        rows = [
            {
                "Name": name,
                "Driver": "local",
                "Labels": labels,
                # only the broker's list has it
                **({"UsageData": {"Size": self.usage[name]}} if name in self.usage else {}),
            }
            for name, labels in self.volumes.items()
            if {f"{key}={value}" for key, value in (labels or {}).items()}.issuperset(wanted)
        ]
        return _answer({"Volumes": rows, "Warnings": None})

    async def _delete_volume(self, request: web.Request) -> web.Response:
        fault = await self._fail("delete_volume", request)
        if fault is not None:
            return fault
        name = request.match_info["subject"]
        if name not in self.volumes:
            return _error(404, f"get {name}: no such volume")
        for container in self.containers.values():
            mounts = (container.body.get("HostConfig") or {}).get("Mounts") or []
            if name in [mount.get("Source") for mount in mounts]:
                return _error(409, f"remove {name}: volume is in use - [{container.id}]")
        del self.volumes[name]
        return web.Response(status=204)

    async def _disk_use(self, request: web.Request) -> web.Response:
        fault = await self._fail("disk_use", request)
        if fault is not None:
            return fault
        rows = [
            {"Name": name, "UsageData": {"RefCount": 1, "Size": self.sizes.get(name, 4096)}}
            for name in self.volumes
        ]
        return _answer({"Volumes": rows})

    def _publish(self, action: str, container: FakeContainer) -> None:
        attributes = {**(container.body.get("Labels") or {}), "name": container.name}
        if action == "die":
            attributes["exitCode"] = str(container.exit_code)
        self.events.publish(action, container.id, attributes)

    async def _create(self, request: web.Request) -> web.Response:
        fault = await self._fail("create", request)
        if fault is not None:
            return fault
        body = await request.json()
        name = request.query["name"]
        if name in self.containers:
            return _error(409, f'Conflict. The container name "/{name}" is already in use')
        if body.get("Image") not in self.images.values():
            return _error(404, f"No such image: {body.get('Image')}")
        self._born += 1
        container = FakeContainer(f"{self._born:064x}", name, body)
        self.containers[name] = container
        mounts = (body.get("HostConfig") or {}).get("Mounts") or []
        for mount in mounts:
            if (
                mount["Type"] == "volume" and "Source" in mount
            ):  # the others go with their container
                labels = (mount.get("VolumeOptions") or {}).get("Labels")
                self.volumes.setdefault(mount["Source"], labels)
        return _answer({"Id": container.id, "Warnings": []}, 201)

    async def _inspect(self, request: web.Request) -> web.Response:
        container = await self._reach("inspect", request)
        if isinstance(container, web.Response):
            return container
        return _answer(container.inspect())

    async def _logs(self, request: web.Request) -> web.Response:
        container = await self._reach("logs", request)
        if isinstance(container, web.Response):
            return container
        tail = container.log[-int(request.query.get("tail", "1000")) :]
        frames = (line.encode() + b"\n" for line in tail)
        return web.Response(
            body=b"".join(struct.pack(">BxxxL", 1, len(frame)) + frame for frame in frames),
            content_type="application/vnd.docker.multiplexed-stream",
        )

    async def _start(self, request: web.Request) -> web.Response:
        container = await self._reach("start", request)
        if isinstance(container, web.Response):
            return container
        if container.is_running:
            return web.Response(status=304)
        if (container.body.get("Labels") or {}).get("workbench.role") == "server":
            self.run(container.name)
        else:
            container.started_at = self.date()
            container.exit_code, container.log = self.exit_code, self.log
            self._publish("die", container)
        return web.Response(status=204)

    async def _stop(self, request: web.Request) -> web.Response:
        container = await self._reach("stop", request)
        if isinstance(container, web.Response):
            return container
        if not container.is_running:
            return web.Response(status=304)
        self.end(container.name, container.exit_code)
        return web.Response(status=204)

    async def _wait(self, request: web.Request) -> web.Response:
        container = await self._reach("wait", request)
        if isinstance(container, web.Response):
            return container
        return _answer({"StatusCode": container.exit_code})

    async def _delete(self, request: web.Request) -> web.Response:
        container = await self._reach("delete", request)
        if isinstance(container, web.Response):
            return container
        if container.is_running:
            return _error(409, f'cannot remove container "/{container.name}": container is running')
        self.vanish(container.name)
        return web.Response(status=204)
