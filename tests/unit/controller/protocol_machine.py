"""The lease protocol under every interleaving that can be thought of.

Hubs are killed, paused and resumed at any call to ledger or Docker. Calls fail, lose their answer or land late.
Containers end by themselves, and databases are restored from an old backup.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from spawner.controller import Controller
from spawner.model import (
    Cause,
    GpuHealth,
    LaunchError,
    Lease,
    LeaseState,
    Refused,
    Unknown,
    Waiting,
)
from testing.factories import make_gpu, make_request
from testing.fakes.quick_docker import Trouble
from tests.unit.controller.protocol_world import GPUS, HOUR, USERS, Hub, World

UNLIMITED = 10**9
SEARCH = settings(
    stateful_step_count=50,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


async def start_server(controller: Controller, user: str, gpus: int) -> None:
    """Do as the spawner does: acquire, wait, launch, confirm, and give everything back where that fails."""
    answer = await controller.acquire(make_request(user, gpus))
    if isinstance(answer, Refused):
        return
    lease: Lease | None = answer.lease
    if isinstance(answer, Waiting):
        lease = await controller.wait_for_grant(answer.lease.id, lambda *_: None)
    if lease is None:
        return
    try:
        await controller.launch(lease, {}, lambda *_: None)
        await controller.confirm(lease.id)
    except (LaunchError, Unknown):
        await controller.release(lease.id, Cause.FAILED)


async def stop_server(controller: Controller, user: str) -> None:
    """Do as the spawner does when its user stops it or gives up."""
    try:
        await controller.give_up(user, "")
    except Unknown:
        return


async def run_background_tasks(controller: Controller) -> None:
    """Do once what the controller's loops do again and again."""
    try:
        await controller.tick()
        await controller.leases_without_spawn()  # moves the line
    except Unknown:
        return


async def check_gpus(controller: Controller) -> None:
    """Look once at the GPUs' health."""
    try:
        await controller.health.check()
    except Unknown:
        return


async def release_gpu(controller: Controller, uuid: str) -> None:
    """Do as an admin does who has repaired a GPU."""
    try:
        await controller.health.release_gpu(uuid, "admin")
    except Unknown:
        return


async def drain_gpu(controller: Controller, uuid: str, *, ends: bool) -> None:
    """Do as an admin does who takes a GPU out of use, or gives it back."""
    orders = controller.admin_actions
    try:
        if ends:
            await orders.undrain(uuid, by="admin", reason="a reason")
        else:
            await orders.drain(uuid, by="admin", reason="a reason")
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
        self.seen.update(self.world.describe(self.world.check()))

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
        self.act(self.hub, "look after", run_background_tasks(self.hub.controller), allowed)

    @precondition(lambda self: self.world.operations)
    @rule(index=which, allowed=calls)
    def go_on(self, index: int, allowed: int) -> None:
        operations = self.world.operations
        self.world.allow(operations[index % len(operations)], allowed)
        self.done()

    # --- what goes wrong

    @precondition(lambda self: not self.world.daemon.troubles)
    @rule(troubles=st.lists(st.none() | st.sampled_from(Trouble), min_size=1, max_size=6))
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

    @precondition(lambda self: self.hub.controller.is_ready)
    @rule(allowed=calls)
    def the_gpus_are_looked_at(self, allowed: int) -> None:
        self.act(self.hub, "look at the GPUs", check_gpus(self.hub.controller), allowed)

    @precondition(lambda self: self.hub.controller.is_ready)
    @rule(index=st.integers(0, GPUS - 1), allowed=calls)
    def a_gpu_is_returned(self, index: int, allowed: int) -> None:
        uuid = self.world.host.gpus[index].uuid
        self.act(self.hub, "return", release_gpu(self.hub.controller, uuid), allowed)

    @precondition(lambda self: self.hub.controller.is_ready)
    @rule(index=st.integers(0, GPUS - 1), ends=st.booleans(), allowed=calls)
    def a_gpu_is_drained(self, index: int, ends: bool, allowed: int) -> None:
        uuid = self.world.host.gpus[index].uuid
        self.act(self.hub, "drain", drain_gpu(self.hub.controller, uuid, ends=ends), allowed)

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
        act = (
            start_server(controller, user, 1)
            if what == "start"
            else run_background_tasks(controller)
        )
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
        world.uptime += HOUR  # a restore takes longer than a start
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
        # whose GPU failed has a server all the same: a clean reconcile leaves no LOST lease without one
        after = self.places(LeaseState.WAITING, LeaseState.RUNNING, LeaseState.LOST)
        if any(after.get(user) != requested_at for user, requested_at in before.items()):
            self.world.violated(f"lost their place: {before} became {after}")
