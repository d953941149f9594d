"""A world in which every call to ledger and Docker happens when it is allowed to, and what must be true in it.

The product's own ledger (a real SQLite file), controller, Docker client and broker before a fake daemon.
``Violation`` says which promise of the lease protocol was broken.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

import pytest

from spawner.clock import Clock
from spawner.controller import Controller
from spawner.ledger import Ledger
from spawner.model import (
    ACTIVE_STATES,
    Cause,
    Lease,
    LeaseState,
)
from spawner.policy import names
from spawner.policy.container import LABEL_GPUS, LABEL_LEASE, LABEL_ROLE, ROLE_SERVER
from testing.fakes.docker_container import FakeContainer
from testing.fakes.quick_docker import QuickBroker, QuickDaemon, quick_containers
from tests.unit.controller.protocol_ledger import (
    StoredEntry,
    make_folder,
    new_ledger,
    read_past_the_product,
)
from tests.unit.controller_env import CATALOG, IMAGE_ID, RELEASE, SETTINGS, Host

GPUS = 2
HOUR = 3600.0
USERS = ("alice", "bob", "carol")
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
    """Hold every call to ledger and Docker until the operation is allowed to pass."""
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
        self.patch.setattr("spawner.controller.controller.SerialExecutor", OnLoop)
        self.patch.setattr("spawner.controller.lease_lifecycle.STOP_GRACE_SECONDS", 0)
        # the same steps have to lead to the same end, so that what fails can be repeated
        ids = (f"{number:016x}" for number in itertools.count())
        self.patch.setattr("spawner.ledger.ledger._new_id", lambda: next(ids))
        self.loop = asyncio.new_event_loop()
        self.folder = make_folder()
        self.path = self.folder / "ledger.sqlite"
        self.uptime = 0.0
        self.daemon = QuickDaemon(gate, wall=lambda: self.uptime)
        self.daemon.images[RELEASE.image] = IMAGE_ID
        self.daemon.on_stop = self.check_stop
        self.host = Host(GPUS)
        shutil.copy(new_ledger(), self.path)
        self.ledger = self.open_ledger()
        self.broker = QuickBroker(
            self.daemon,  # type: ignore[arg-type]
            lambda: self.ledger,
            instance=SETTINGS.instance,
            limits=SETTINGS.limits,
            images={RELEASE.name: RELEASE.image},
            require_walls=lambda: None,
            first_uid=SETTINGS.first_uid,
        )
        for user in USERS[1:]:  # the first start of alice prepares her home
            self.ledger.mark_home_prepared(self.ledger.get_or_create_account(user, user).uid)
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
        """No hub stops a server whose lease is not closing, nor one that only seemed to be gone."""
        if not (container.is_running and is_server(container)):
            return
        lease = self.ledger.lease(container.body["Labels"][LABEL_LEASE])
        if lease is None or lease.state is not LeaseState.CLOSING:
            self.violated(f"killed without a word in the ledger: {container.name}")
        elif lease.cause in GUESSED or (
            # the decision counts: a removal that Docker refused may come much later
            lease.cause is Cause.INTERRUPTED and self.is_old(container, lease.ended_at)
        ):
            self.violated(f"killed on a guess: {container.name} ({lease.cause})")

    def is_old(self, container: FakeContainer, at: float | None = None) -> bool:
        """Return whether it ran for longer than a start takes, at ``at`` or now."""
        started = datetime.fromisoformat(container.started_at).timestamp()
        return (self.uptime if at is None else at) - started > SETTINGS.start_timeout_seconds

    def check(self) -> tuple[Lease, ...]:
        """Look for every promise that may be broken at any time; return the live leases."""
        used = Counter(uuid for container in self.servers() for uuid in gpus_of(container))
        if any(count > 1 for count in used.values()):
            self.violated("double booking: a GPU is in two running containers")
        leases = self.ledger.live_leases()
        written = read_past_the_product(self.path)
        if written.claims != {uuid: lease.id for lease in leases for uuid in lease.gpu_uuids}:
            self.violated(f"claims {written.claims} are not those of the live leases")
        if not self.is_restored:
            self.check_running(leases)
        self.check_drains(leases, written)
        self.check_quarantines(leases, written)
        return leases

    def check_quarantines(self, leases: tuple[Lease, ...], written: StoredEntry) -> None:
        """No lease is granted a GPU in quarantine, and its holder's lease says so."""
        for lease in leases:
            if lease.state in ACTIVE_STATES and not written.quarantined.isdisjoint(lease.gpu_uuids):
                self.violated(f"{lease.id} has a GPU that is in quarantine")

    def check_drains(self, leases: tuple[Lease, ...], written: StoredEntry) -> None:
        """No lease is granted a drained GPU; an adopted lease had it before."""
        drained = written.drained
        for lease in leases:
            if f"lease {lease.id}" in written.adopted:
                continue
            since = min(
                (drained[uuid] for uuid in lease.gpu_uuids if uuid in drained), default=None
            )
            if since is not None and (lease.granted_at or 0.0) > since:
                self.violated(f"{lease.id} was granted a GPU that is drained")

    def check_running(self, leases: tuple[Lease, ...]) -> None:
        by_id = {lease.id: lease for lease in leases}
        for container in self.servers():
            lease = by_id.get(container.body["Labels"][LABEL_LEASE])
            if lease is None or lease.state is LeaseState.WAITING:
                self.violated(f"{container.name} runs without a lease")
            elif set(lease.gpu_uuids) != set(gpus_of(container)):
                self.violated(f"{container.name} has other GPUs than its lease")

    def in_use(self) -> set[str]:
        """Return the servers in which a user may work: neither just starting nor ending."""
        names_in_use = set()
        for container in self.servers():
            lease = self.ledger.lease(container.body["Labels"][LABEL_LEASE])
            state = None if lease is None else lease.state
            is_starting = state is LeaseState.GRANTED and not self.is_old(container)
            if not is_starting and state is not LeaseState.CLOSING:
                names_in_use.add(container.name)
        return names_in_use

    def describe(self, leases: tuple[Lease, ...]) -> set[str]:
        """Return what is worth having come across, with these live ``leases``."""
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
        leases = self.check()
        self.check_running(leases)
        should_run = {
            names.container_name(SETTINGS.instance, lease)
            for lease in leases
            if lease.state in (LeaseState.LOST, *ACTIVE_STATES)
        }
        settled = {LeaseState.RUNNING, LeaseState.WAITING, LeaseState.LOST}
        if {lease.state for lease in leases} - settled:
            self.violated("a leaked lease")
        if should_run != {container.name for container in self.servers()}:
            self.violated("a lease without its container")
        # a leftover preparation of a home goes with the next one
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
