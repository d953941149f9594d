"""A broker before a fake Docker Engine and a real ledger, for tests of its rules."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa

from spawner.broker.__main__ import lazy_ledger, serve
from spawner.broker.app import Broker
from spawner.broker.engine import Engine
from spawner.ledger import Ledger, tables
from spawner.ledger.database import transaction
from spawner.model import Lease, Options, Quota, Request, Unknown
from spawner.policy import names
from spawner.policy.container import ContainerLimits, build_server
from testing.factories import make_account
from testing.fakes.docker_engine import FakeEngine

INSTANCE = "wb"
TAG, IMAGE_ID = "pytorch-cuda:v2.7", "sha256:1"
LIMITS = ContainerLimits(memory_bytes=2**30, cpus=1.5, pids=100, shm_bytes=2**20)
UUID = "GPU-51a0c0de-0000-4000-8000-000000000000"
OTHER_UUID = "GPU-51a0c0de-0000-4000-8000-000000000001"
ENVIRONMENT = {"JUPYTERHUB_API_TOKEN": "secret-token", "JPY_API_TOKEN": "x=y", "MEM_GUARANTEE": "1"}
FIRST_UID = 20000


class BrokerEnvironment:
    """A broker on a socket of its own, before a fake Engine, with one granted lease."""

    def __init__(self, folder: Path, engine: FakeEngine, ledger: Ledger) -> None:
        self.engine, self.ledger = engine, ledger
        self.socket_path = folder / "broker.sock"
        self.lease = self.grant("alice", UUID)
        self.missing_wall = ""  # the guard's sentence
        self.http: aiohttp.ClientSession
        self.broker: Broker

    def require_walls(self) -> None:
        if self.missing_wall:
            raise Unknown(self.missing_wall)

    def grant(self, user: str, *uuids: str) -> Lease:
        """Return a lease as the controller would have it when its turn has come."""
        request = Request(user, "", Options("v2.7", len(uuids)), user)
        lease = self.ledger.admit(request, lambda *_: None, quota=Quota(), now=1.0)
        assert isinstance(lease, Lease)
        if not uuids:
            return lease
        (granted,) = self.ledger.advance(lambda *_: {lease.id: uuids}, now=1.0)
        return granted

    def name(self, lease: Lease | None = None) -> str:
        return names.container_name(INSTANCE, lease or self.lease)

    def body(self, lease: Lease | None = None) -> dict[str, Any]:
        return deepcopy(
            build_server(
                lease or self.lease,
                make_account(lease or self.lease),
                instance=INSTANCE,
                image_id=IMAGE_ID,
                limits=LIMITS,
                environment=ENVIRONMENT,
            )
        )

    async def request(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Return the status and, of a refusal, the sentence."""
        async with self.http.request(method, path, json=body) as response:
            raw = await response.read()
            if response.status < 400:
                return response.status, ""
            assert response.headers["Content-Type"] == "application/json"
            answer = json.loads(raw)
            assert answer.keys() == {"message"}
            return response.status, answer["message"]

    async def create(self, body: object, name: str | None = None) -> tuple[int, str]:
        return await self.request("POST", f"containers/create?name={name or self.name()}", body)


def forge(broker_env: BrokerEnvironment, lease: Lease, **values: Any) -> Lease:
    """Write a row as a fallen hub can, and return the lease as it then is."""
    with transaction(broker_env.ledger._engine) as connection:
        where = tables.leases.c.id == lease.id
        connection.execute(sa.update(tables.leases).where(where).values(values))
    changed = {**values, "gpu_uuids": tuple(values.get("gpu_uuids", lease.gpu_uuids))}
    return replace(lease, **changed)


@asynccontextmanager
async def running_broker_env(
    folder: Path, ledger_url: str | None = None
) -> AsyncIterator[BrokerEnvironment]:
    """Bring up Engine, ledger and broker; take them down afterwards."""
    url = ledger_url or f"sqlite:///{folder}/ledger.sqlite"
    ledger = Ledger.open(url, first_uid=FIRST_UID)
    async with FakeEngine(folder / "docker.sock") as fake:
        fake.images[TAG] = IMAGE_ID
        broker_env = BrokerEnvironment(folder, fake, ledger)
        engine = Engine(str(fake.socket_path))
        broker_env.broker = Broker(
            engine,
            lazy_ledger(url, FIRST_UID),
            instance=INSTANCE,
            limits=LIMITS,
            images={"v2.7": TAG, "v9.9": "not-built:v9.9"},
            require_walls=broker_env.require_walls,
            first_uid=FIRST_UID,
        )
        runner = await serve(
            broker_env.broker,
            broker_env.socket_path,
            group=broker_env.socket_path.parent.stat().st_gid,
        )
        connector = aiohttp.UnixConnector(str(broker_env.socket_path))
        async with aiohttp.ClientSession(
            "http://broker/v1.44/", connector=connector
        ) as broker_env.http:
            yield broker_env
        broker_env.broker.events.close()
        await runner.cleanup()
        await engine.close()
    ledger.close()
