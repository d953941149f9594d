"""The lease protocol under every interleaving that can be thought of.

The product's own ledger (a real SQLite file), controller, Docker client and broker before a fake daemon; hubs that are
killed, paused and resumed at any call to ledger or Docker; calls that fail, lose their answer or land late; containers
that end by themselves; databases restored from an old backup. ``Violation`` says which promise was broken.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from spawner.clock import Clock
from spawner.controller import Controller
from spawner.ledger import Ledger
from spawner.model import (
    IN_HAND,
    Cause,
    GpuHealth,
    LaunchError,
    Lease,
    LeaseState,
    Refused,
    Unknown,
    Waiting,
)
from spawner.policy import names
from spawner.policy.container import LABEL_GPUS, LABEL_LEASE, LABEL_ROLE, ROLE_SERVER
from tests.fakes.docker_container import FakeContainer
from tests.fakes.quick_docker import QuickBroker, QuickDaemon, Trouble, quick_containers
from tests.unit.made import make_gpu, make_request
from tests.unit.workshop import CATALOG, IMAGE_ID, RELEASE, SETTINGS, Host

GPUS = 2
HOUR = 3600.0
USERS = ("alice", "bob", "carol")
FAST_DISK = Path("/dev/shm")
UNLIMITED = 10**9
GUESSED = (Cause.LOST, Cause.EXITED, Cause.OUT_OF_MEMORY)


class Violation(AssertionError):  # noqa: N818
    """A promise of the lease protocol that was broken."""


class Hub:
    """One life of the hub's process."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.is_dead = False


class Operation:
    """Something that a hub does; it goes on for as many calls to ledger and Docker as it is allowed."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.allowed = 0
        self.parked: list[asyncio.Future[None]] = []
        self.task: asyncio.Task[object] | None = None

    @property
    def is_done(self) -> bool:
        return self.task is not None and self.task.done()


_operation: contextvars.ContextVar[Operation | None] = contextvars.ContextVar("op", default=None)


async def gate() -> None:
    """Stand before every call to ledger and Docker, and let the operation pass when it is allowed to."""
    operation = _operation.get()
    if operation is None:
        return
    while not operation.hub.is_dead and operation.allowed <= 0:
        parked = asyncio.get_running_loop().create_future()
        operation.parked.append(parked)
        await parked
    if operation.hub.is_dead:
        raise asyncio.CancelledError
    operation.allowed -= 1


class OnLoop:
    """Takes the place of the ledger's thread: the same calls, one at a time, each behind the gate."""

    def __init__(self, _name: str) -> None:
        """Need no name."""

    async def __call__(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await gate()
        return call(*args, **kwargs)


class World:
    """Ledger, broker, daemon and the hubs that use them."""

    def __init__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("spawner.controller.OffLoop", OnLoop)
        self.patch.setattr("spawner.leases.STOP_GRACE_SECONDS", 0)
        # the same steps have to lead to the same end, so that what fails can be repeated
        ids = (f"{number:016x}" for number in itertools.count())
        self.patch.setattr("spawner.ledger._new_id", lambda: next(ids))
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(dir=FAST_DISK if FAST_DISK.is_dir() else None))
        self.path = self.folder / "ledger.sqlite"
        self.uptime = 0.0
        self.daemon = QuickDaemon(gate, wall=lambda: self.uptime)
        self.daemon.images[RELEASE.image] = IMAGE_ID
        self.daemon.on_stop = self.check_stop
        self.host = Host(GPUS)
        self.ledger = self.open_ledger()
        self.broker = QuickBroker(
            self.daemon,  # type: ignore[arg-type]
            lambda: self.ledger,
            instance=SETTINGS.instance,
            limits=SETTINGS.limits,
            images={RELEASE.name: RELEASE.image},
        )
        for user in USERS[1:]:  # the first start of alice prepares her home
            self.ledger.mark_home_prepared(self.ledger.account_of(user, user).uid)
        self.operations: list[Operation] = []
        self.is_restored = False

    def open_ledger(self) -> Ledger:
        return Ledger.open(f"sqlite:///{self.path}", first_uid=SETTINGS.first_uid)

    def close(self) -> None:
        for hub in {op.hub for op in self.operations}:
            self.kill(hub)
        self.ledger.close()
        self.loop.close()
        self.patch.undo()
        shutil.rmtree(self.folder)

    # --- hubs and what they do

    def new_hub(self) -> Hub:
        clock = Clock(
            self.ledger,
            boot_id=lambda: "boot",
            boottime=lambda: self.uptime,
            wall=lambda: self.uptime,
        )
        containers = quick_containers(self.broker, SETTINGS.instance)
        return Hub(Controller(self.ledger, self.host, containers, CATALOG, SETTINGS, clock))

    def begin(
        self, hub: Hub, name: str, act: Coroutine[Any, Any, object], allowed: int
    ) -> Operation:
        operation = Operation(hub, name)
        context = contextvars.copy_context()
        context.run(_operation.set, operation)
        operation.task = self.loop.create_task(act, context=context)
        self.operations.append(operation)
        self.allow(operation, allowed)
        return operation

    def allow(self, operation: Operation, calls: int) -> None:
        operation.allowed += calls
        parked, operation.parked = operation.parked, []
        for future in parked:
            if not future.done():
                future.set_result(None)
        self.settle()
        self.operations = [op for op in self.operations if not op.is_done]
        if operation.is_done and operation.task is not None and not operation.task.cancelled():
            operation.task.result()  # whatever an operation does not expect is an error here

    def settle(self) -> None:
        """Run the loop until nothing is left to do without being allowed to."""

        async def until_idle() -> None:
            while self.loop._ready:  # type: ignore[attr-defined]
                await asyncio.sleep(0)

        self.loop.run_until_complete(until_idle())

    def kill(self, hub: Hub) -> None:
        hub.is_dead = True
        for operation in self.operations:
            if operation.hub is hub and operation.task is not None:
                operation.task.cancel()
                for future in operation.parked:
                    future.cancel()
        self.settle()
        self.operations = [op for op in self.operations if op.hub is not hub]

    # --- promises

    def violated(self, what: str) -> None:
        running = {c.name: c.body["Labels"].get(LABEL_GPUS) for c in self.servers()}
        leases = "\n  ".join(map(str, self.ledger.live_leases()))
        raise Violation(f"{what}\nrunning: {running}\nleases:\n  {leases}")

    def servers(self) -> list[FakeContainer]:
        return [c for c in self.daemon.containers.values() if c.is_running and is_server(c)]

    def check_stop(self, container: FakeContainer) -> None:
        """Nobody stops a server whose lease is not closing, nor one that was only thought to be gone."""
        if not (container.is_running and is_server(container)):
            return
        lease = self.ledger.lease(container.body["Labels"][LABEL_LEASE])
        if lease is None or lease.state is not LeaseState.CLOSING:
            self.violated(f"killed without a word in the ledger: {container.name}")
        elif lease.cause in GUESSED or (
            lease.cause is Cause.INTERRUPTED and self.is_old(container)
        ):
            self.violated(f"killed on a guess: {container.name} ({lease.cause})")

    def is_old(self, container: FakeContainer) -> bool:
        started = datetime.fromisoformat(container.started_at).timestamp()
        return self.uptime - started > SETTINGS.start_timeout_seconds

    def check(self) -> None:
        used = Counter(uuid for container in self.servers() for uuid in gpus_of(container))
        if any(count > 1 for count in used.values()):
            self.violated("double booking: a GPU is in two running containers")
        leases = self.ledger.live_leases()
        claimed = read_claims(self.path)
        if claimed != {uuid: lease.id for lease in leases for uuid in lease.gpu_uuids}:
            self.violated(f"claims {claimed} are not those of the live leases")
        if not self.is_restored:
            self.check_running(leases)

    def check_running(self, leases: tuple[Lease, ...]) -> None:
        by_id = {lease.id: lease for lease in leases}
        for container in self.servers():
            lease = by_id.get(container.body["Labels"][LABEL_LEASE])
            if lease is None or lease.state is LeaseState.WAITING:
                self.violated(f"{container.name} runs without a lease")
            elif set(lease.gpu_uuids) != set(gpus_of(container)):
                self.violated(f"{container.name} has other GPUs than its lease")

    def in_use(self) -> set[str]:
        """Return the servers in which somebody may work: neither just starting nor ending."""
        names_in_use = set()
        for container in self.servers():
            lease = self.ledger.lease(container.body["Labels"][LABEL_LEASE])
            state = None if lease is None else lease.state
            is_starting = state is LeaseState.GRANTED and not self.is_old(container)
            if not is_starting and state is not LeaseState.CLOSING:
                names_in_use.add(container.name)
        return names_in_use

    def see(self) -> set[str]:
        """Return what is worth having come across."""
        leases = self.ledger.live_leases()
        states = {lease.state.value for lease in leases}
        causes = {f"closing, {lease.cause.value}" for lease in leases if lease.cause is not None}
        things = {
            "two servers with GPUs": sum(bool(gpus_of(c)) for c in self.servers()) > 1,
            "three in line": sum(lease.state is LeaseState.WAITING for lease in leases) > 2,
            "a late call": bool(self.daemon.late),
            "two hubs at work": len({op.hub for op in self.operations}) > 1,
            "a restored backup": self.is_restored,
        }
        return states | causes | {thing for thing, is_seen in things.items() if is_seen}

    def check_clean(self) -> None:
        """After a clean reconcile no lease is without its container, no container without its lease."""
        self.check()
        leases = self.ledger.live_leases()
        self.check_running(leases)
        should_run = {
            names.container_name(SETTINGS.instance, lease)
            for lease in leases
            if lease.state in IN_HAND
        }
        if {lease.state for lease in leases} - {LeaseState.RUNNING, LeaseState.WAITING}:
            self.violated("a leaked lease")
        if should_run != {container.name for container in self.servers()}:
            self.violated("a lease without its container")
        # what is left of a home's preparation goes with the next one
        made = [c for c in self.daemon.containers.values() if is_server(c)]
        if made != self.servers():
            self.violated("an orphaned container")


def is_server(container: FakeContainer) -> bool:
    """Return whether a person works in it, not the broker's one-shot."""
    return bool(container.body["Labels"][LABEL_ROLE] == ROLE_SERVER)


def gpus_of(container: FakeContainer) -> list[str]:
    """Return the GPUs that the daemon gives the container, whatever its label says."""
    requests = container.body["HostConfig"].get("DeviceRequests") or []
    return [id_.partition("=")[2] for request in requests for id_ in request["DeviceIDs"]]


def read_claims(path: Path) -> dict[str, str]:
    """Return which lease claims which GPU, read past the product."""
    with sqlite3.connect(path) as connection:
        claims = dict(connection.execute("SELECT gpu_uuid, lease_id FROM claims"))
    connection.close()
    return claims


async def start_server(controller: Controller, user: str, gpus: int) -> None:
    """Do as the spawner does: acquire, wait, launch, confirm, and give everything back where that fails."""
    answer = await controller.acquire(make_request(user, gpus))
    if isinstance(answer, Refused):
        return
    lease: Lease | None = answer.lease
    if isinstance(answer, Waiting):
        lease = await controller.await_turn(answer.lease.id, lambda *_: None)
    if lease is None:
        return
    try:
        await controller.launch(lease, {}, lambda *_: None)
        await controller.confirm(lease.id)
    except (LaunchError, Unknown):
        await controller.release(lease.id, Cause.FAILED)


async def look_after(controller: Controller) -> None:
    """Do once what the controller's loops do again and again."""
    try:
        await controller.tick()
        await controller.unattended()  # moves the line
    except Unknown:
        return


async def reconcile(controller: Controller) -> None:
    """Reconcile once."""
    try:
        await controller.reconcile()
    except Unknown:
        return


calls = st.integers(0, 12) | st.just(UNLIMITED)
which = st.integers(0, 9)
healths = st.sampled_from([GpuHealth.OK, GpuHealth.OK, GpuHealth.LOST])


class LeaseProtocol(RuleBasedStateMachine):
    """See the module; ``steps`` counts all of all runs, ``seen`` what they came across."""

    steps = 0
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.paused: Hub | None = None
        self.backup: Path | None = None
        self.hub = self.world.new_hub()

    @initialize()
    def begin(self) -> None:
        self.world.begin(self.hub, "reconcile", reconcile(self.hub.controller), UNLIMITED)

    def teardown(self) -> None:
        self.world.close()

    def act(self, hub: Hub, name: str, act: Coroutine[Any, Any, object], allowed: int) -> None:
        self.world.begin(hub, name, act, allowed)
        self.done()

    def done(self) -> None:
        type(self).steps += 1
        self.world.uptime += 0.001
        self.world.check()
        self.seen.update(self.world.see())

    # --- what people and the hub do

    @precondition(lambda self: self.hub.controller.is_ready)
    @rule(user=st.sampled_from(USERS), gpus=st.integers(0, GPUS), allowed=calls)
    def start(self, user: str, gpus: int, allowed: int) -> None:
        controller = self.hub.controller
        self.act(self.hub, "start", start_server(controller, user, gpus), allowed)

    @precondition(lambda self: self.hub.controller.is_ready)
    @rule(user=st.sampled_from(USERS), allowed=calls)
    def stop(self, user: str, allowed: int) -> None:
        controller = self.hub.controller
        self.act(self.hub, "stop", stop_server(controller, user), allowed)

    @precondition(lambda self: self.hub.controller.is_ready)
    @rule(hours=st.sampled_from([0.0, 0.0, 1.0, 25.0]), allowed=calls)
    def time_passes(self, hours: float, allowed: int) -> None:
        self.world.uptime += 1.0 + hours * HOUR
        self.act(self.hub, "look after", look_after(self.hub.controller), allowed)

    @precondition(lambda self: self.world.operations)
    @rule(index=which, allowed=calls)
    def go_on(self, index: int, allowed: int) -> None:
        operations = self.world.operations
        self.world.allow(operations[index % len(operations)], allowed)
        self.done()

    # --- what goes wrong

    @precondition(lambda self: not self.world.daemon.troubles)
    @rule(troubles=st.lists(st.none() | st.sampled_from(Trouble), min_size=1, max_size=4))
    def docker_is_in_trouble(self, troubles: list[Trouble | None]) -> None:
        self.world.daemon.troubles.extend(troubles)
        self.done()

    @precondition(lambda self: self.world.daemon.late)
    @rule(index=which)
    def a_late_call_lands(self, index: int) -> None:
        self.world.loop.run_until_complete(self.world.daemon.land(index))
        self.done()

    @precondition(lambda self: self.world.servers())
    @rule(index=which, by_hand=st.booleans())
    def a_container_ends(self, index: int, by_hand: bool) -> None:
        servers = self.world.servers()
        name = servers[index % len(servers)].name
        if by_hand:
            self.world.daemon.vanish(name)
        else:
            self.world.daemon.end(name, 1)
        self.done()

    @rule(index=st.integers(0, GPUS - 1), health=healths)
    def a_gpu_changes(self, index: int, health: GpuHealth) -> None:
        self.world.host.gpus[index] = make_gpu(index, health)
        self.done()

    @rule(allowed=calls)
    def the_hub_is_killed(self, allowed: int) -> None:
        places = self.places(LeaseState.WAITING)
        self.world.kill(self.hub)
        self.hub = self.world.new_hub()
        self.act(self.hub, "reconcile", reconcile(self.hub.controller), allowed)
        if self.paused is None and not self.world.is_restored:
            self.check_places(places)

    @precondition(lambda self: self.paused is None)
    @rule(allowed=calls)
    def the_hub_is_paused(self, allowed: int) -> None:
        self.paused, self.hub = self.hub, self.world.new_hub()
        self.act(self.hub, "reconcile", reconcile(self.hub.controller), allowed)

    @precondition(lambda self: self.paused is not None and self.paused.controller.is_ready)
    @rule(user=st.sampled_from(USERS), allowed=calls, what=st.sampled_from(["start", "look"]))
    def the_paused_hub_resumes(self, user: str, allowed: int, what: str) -> None:
        assert self.paused is not None
        controller = self.paused.controller
        act = start_server(controller, user, 1) if what == "start" else look_after(controller)
        self.act(self.paused, what, act, allowed)

    @precondition(lambda self: self.paused is not None)
    @rule()
    def the_paused_hub_ends(self) -> None:
        assert self.paused is not None
        self.world.kill(self.paused)
        self.paused = None
        self.done()

    @precondition(lambda self: self.world.ledger.live_leases() and not self.world.is_restored)
    @rule()
    def the_ledger_is_backed_up(self) -> None:
        self.backup = self.world.folder / "backup.sqlite"
        self.backup.unlink(missing_ok=True)
        with sqlite3.connect(self.world.path) as source, sqlite3.connect(self.backup) as copy:
            source.backup(copy)
        source.close()
        copy.close()
        self.done()

    @precondition(lambda self: self.backup is not None and not self.world.is_restored)
    @rule(allowed=calls)
    def the_backup_is_restored(self, allowed: int) -> None:
        assert self.backup is not None
        world = self.world
        for hub in filter(None, (self.hub, self.paused)):
            world.kill(hub)
        self.paused = None
        world.ledger.close()
        for suffix in ("-wal", "-shm"):
            Path(f"{world.path}{suffix}").unlink(missing_ok=True)
        shutil.copy(self.backup, world.path)
        world.ledger = world.open_ledger()
        world.is_restored = True
        world.daemon.late.clear()
        world.uptime += HOUR  # nobody restores within the time that a start takes
        self.hub = world.new_hub()
        self.act(self.hub, "reconcile", reconcile(self.hub.controller), allowed)

    # --- and what is left then

    @rule()
    def a_clean_reconcile(self) -> None:
        world = self.world
        for hub in filter(None, (self.hub, self.paused)):
            world.kill(hub)
        self.paused = None
        world.daemon.troubles.clear()
        while world.daemon.late:
            world.loop.run_until_complete(world.daemon.land(0))
        world.check()
        in_use = world.in_use()
        places = self.places(LeaseState.WAITING, LeaseState.GRANTED)
        self.hub = world.new_hub()
        world.loop.run_until_complete(self.hub.controller.reconcile())
        world.check_clean()
        if not world.is_restored:
            self.check_places(places)
        if not in_use <= {container.name for container in world.servers()}:
            world.violated("a container in use was removed")
        world.is_restored = False
        self.done()

    def places(self, *states: LeaseState) -> dict[str, float]:
        """Return who has a claim to GPUs that they do not use yet, and since when."""
        leases = self.world.ledger.live_leases()
        return {
            lease.user: lease.requested_at
            for lease in leases
            if lease.state in states and lease.gpu_count
        }

    def check_places(self, before: dict[str, float]) -> None:
        after = self.places(LeaseState.WAITING, LeaseState.RUNNING)
        if any(after.get(user) != requested_at for user, requested_at in before.items()):
            self.world.violated(f"lost their place: {before} became {after}")


async def stop_server(controller: Controller, user: str) -> None:
    """Do as the spawner does when its user stops it or gives up."""
    try:
        await controller.give_up(user, "")
    except Unknown:
        return
