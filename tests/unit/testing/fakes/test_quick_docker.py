"""The fake daemon behind the real broker and client answers as the one behind a socket does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spawner.containers import Containers
from spawner.ledger import Ledger
from spawner.model import Cause, LaunchError, Lease, LeaseState, Quota, Unknown
from spawner.policy import names
from spawner.policy.container import build_home_preparation, build_server
from testing.factories import GPU_0, make_account, make_request
from testing.fakes.quick_docker import QuickBroker, QuickDaemon, Trouble, quick_containers
from tests.unit.controller_env import IMAGE_ID, RELEASE, SETTINGS

STARTED_AT = 1000.0


CALLS_BEFORE_CREATE = 3
"""The broker first asks for the image, the home and the running servers."""


class Bench:
    """A daemon, its broker and client, and one granted lease."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(f"sqlite:///{folder / 'ledger.sqlite'}", first_uid=20000)
        self.passed = 0
        self.daemon = QuickDaemon(self.gate, wall=lambda: STARTED_AT)
        self.daemon.images[RELEASE.image] = IMAGE_ID
        broker = QuickBroker(
            self.daemon,  # type: ignore[arg-type]
            lambda: self.ledger,
            instance=SETTINGS.instance,
            limits=SETTINGS.limits,
            images={RELEASE.name: RELEASE.image},
            require_walls=lambda: None,
            first_uid=SETTINGS.first_uid,
        )
        self.containers: Containers = quick_containers(broker, SETTINGS.instance)
        self.lease = self.grant()
        self.name = names.container_name(SETTINGS.instance, self.lease)
        self.body = build_server(
            self.lease,
            make_account(self.lease),
            instance=SETTINGS.instance,
            image_id=IMAGE_ID,
            limits=SETTINGS.limits,
            environment={},
        )

    async def gate(self) -> None:
        self.passed += 1

    def grant(self) -> Lease:
        lease = self.ledger.admit(make_request(), lambda *_: None, quota=Quota(), now=1.0)
        assert isinstance(lease, Lease)
        (granted,) = self.ledger.advance(lambda *_: {lease.id: (GPU_0,)}, now=1.0)
        return granted


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.ledger.close()


async def test_a_life_is_as_through_a_socket(bench: Bench) -> None:
    assert await bench.containers.image_id(RELEASE.image) == IMAGE_ID
    with pytest.raises(LaunchError, match="no image of the catalog"):
        await bench.containers.image_id("other:1")
    assert await bench.containers.inspect(bench.name) is None
    await bench.containers.create(bench.name, bench.body)
    with pytest.raises(LaunchError, match="already in use"):
        await bench.containers.create(bench.name, bench.body)
    await bench.containers.start(bench.name)
    (status,) = await bench.containers.list_servers()
    assert (status.name, status.is_running) == (bench.name, True)
    seen = await bench.containers.inspect(bench.name)
    assert seen is not None and seen.started_at == STARTED_AT
    await bench.containers.remove(bench.name, 0)
    assert bench.daemon.containers == {}
    assert bench.passed > 10


async def test_a_home_is_prepared(bench: Bench) -> None:
    account = bench.ledger.get_or_create_account("alice", "alice")
    body = build_home_preparation(account, instance=SETTINGS.instance, image_id=IMAGE_ID)
    await bench.containers.prepare_home(
        names.preparation_name(SETTINGS.instance, account.uid), body
    )
    assert bench.daemon.containers == {}


async def test_the_broker_is_the_real_one(bench: Bench) -> None:
    with pytest.raises(LaunchError, match="differs from its lease and settings"):
        await bench.containers.create(bench.name, {**bench.body, "User": "0:0"})
    await bench.containers.create(bench.name, bench.body)
    bench.ledger.move(bench.lease, LeaseState.CLOSING, now=2.0, cause=Cause.USER)
    with pytest.raises(LaunchError, match="no container of it may start"):
        await bench.containers.start(bench.name)


@pytest.mark.parametrize(
    ("trouble", "is_there"), [(Trouble.ERROR, False), (Trouble.LOST, True), (Trouble.LATE, False)]
)
async def test_trouble_is_unknown_with_or_without_its_effect(
    bench: Bench, trouble: Trouble, *, is_there: bool
) -> None:
    bench.daemon.troubles.extend([None] * CALLS_BEFORE_CREATE + [trouble])
    with pytest.raises(Unknown):
        await bench.containers.create(bench.name, bench.body)
    assert (bench.name in bench.daemon.containers) is is_there
    if trouble is Trouble.LATE:
        await bench.daemon.land(0)
        assert bench.name in bench.daemon.containers


async def test_a_call_whose_caller_died_may_land_later(bench: Bench) -> None:
    died = asyncio.Event()

    async def stand() -> None:
        bench.passed += 1
        if bench.passed == CALLS_BEFORE_CREATE + 1:
            died.set()
            await asyncio.Event().wait()

    bench.daemon.gate = stand
    creating = asyncio.create_task(bench.containers.create(bench.name, bench.body))
    await died.wait()
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)
    assert bench.daemon.containers == {}
    (late,) = bench.daemon.late
    assert (late.operation, late.subject) == ("create", bench.name)
    await bench.daemon.land(0)
    assert bench.name in bench.daemon.containers


async def test_a_watcher_is_notified_before_a_server_is_stopped(bench: Bench) -> None:
    told: list[tuple[str, bool]] = []
    bench.daemon.on_stop = lambda container: told.append((container.name, container.is_running))
    await bench.containers.create(bench.name, bench.body)
    await bench.containers.start(bench.name)
    await bench.containers.remove(bench.name, 0)
    assert told == [(bench.name, True)]
