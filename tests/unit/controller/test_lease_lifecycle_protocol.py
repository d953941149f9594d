"""The lease protocol holds under every interleaving, and each of its rules is needed.

Each rule is switched off in turn, and the same search has to find what it was for.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from hypothesis import Phase, seed, settings
from hypothesis.stateful import RULE_MARKER, run_state_machine_as_test

from spawner.broker.app import Broker
from spawner.containers import Containers, ContainerStatus, ListedServer
from spawner.controller import Controller, reconcile
from spawner.controller.lease_lifecycle import LeaseLifecycle
from spawner.controller.queue import LeaseQueue
from spawner.controller.reconcile import Reconciliation
from spawner.ledger import Ledger, ledger, rows, tables
from spawner.model import (
    Cause,
    Granted,
    Lease,
    LeaseState,
    Reason,
    Refused,
    Request,
    StaleLease,
    Unknown,
)
from testing.factories import make_lease
from testing.scale import at_scale
from tests.unit.controller.protocol_machine import SEARCH, LeaseProtocol
from tests.unit.controller.protocol_world import Violation

STEPS = at_scale(10_000, 1_000_000)
SEARCHES = at_scale(4, 100)
EXAMPLES = at_scale(160, 320)
# a commit fails for what it changed; nights look elsewhere
FIRST_SEED = at_scale(0, date.today().toordinal() * 1000)
EXAMPLES_TO_FIND = 5_000


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of planned faults are no news."""
    caplog.set_level(logging.CRITICAL, logger="spawner")


def search(number: int) -> tuple[int, Counter[str]]:
    """Search with the seed ``number``; return how many steps were taken and what was come across."""
    logging.disable(logging.CRITICAL)  # this process does nothing else

    class Seeded(LeaseProtocol):
        steps = 0
        seen: ClassVar[Counter[str]] = Counter()

    machine = seed(number)(Seeded)
    try:
        run_state_machine_as_test(machine, settings=settings(SEARCH, max_examples=EXAMPLES))
    except Exception as error:
        error.add_note(f"The seed was {number}.")
        raise
    return machine.steps, machine.seen


def test_no_interleaving_breaks_a_promise() -> None:
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        found = list(processes.map(search, range(FIRST_SEED, FIRST_SEED + SEARCHES)))
    steps = sum(number for number, _ in found)
    seen = sum((things for _, things in found), Counter[str]())
    print(f"{steps} steps: {dict(seen)}")  # noqa: T201
    assert steps >= STEPS
    for thing in (
        "two servers with GPUs",
        "three in line",
        "a late call",
        "two hubs at work",
        "a restored backup",
        "closing, interrupted",
        "closing, expired",
        *(state.value for state in LeaseState if state is not LeaseState.CLOSED),
    ):
        assert seen[thing] > 0, thing


# --- each rule switched off


class Switch:
    """One rule that is off: ``replace`` puts other code in its place, ``used`` counts how often that ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used = 0
        self._monkeypatch = monkeypatch
        self._replaced: list[tuple[object, str, object]] = []

    def replace(self, owner: object, name: str, other: Callable[..., Any]) -> None:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.used += 1
            return other(*args, **kwargs)

        self._replaced.append((owner, name, getattr(owner, name)))
        self._monkeypatch.setattr(owner, name, counted)

    def is_off(self) -> bool:
        """Return whether the code was changed, and the changed code ran."""
        changed = all(getattr(owner, name) is not was for owner, name, was in self._replaced)
        return bool(self._replaced) and changed and self.used > 0


def claim_in_two_steps(switch: Switch) -> None:
    """A claim is one transaction, and a GPU is the key of its claim."""

    async def acquire(self: Any, request: Request) -> Granted | Refused:
        live = await self._in_ledger(self._ledger.live_leases)
        held = {uuid for lease in live for uuid in lease.gpu_uuids}
        gpus = [gpu.uuid for gpu in await self._gpus.inventory() if gpu.uuid not in held]
        lease = make_lease(
            id=ledger._new_id(),
            user=request.user,
            uid=self._ledger.get_or_create_account(request.user, request.identity).uid,
            gpu_uuids=tuple(gpus[: request.options.gpus]),
            ends_at=1e9,
            is_claimed=True,
        )
        if len(lease.gpu_uuids) < request.options.gpus:
            return Refused(Reason.NOT_ENOUGH_GPUS, "None is free.")
        is_new = await self._in_ledger(self._ledger.adopt, lease)
        return Granted(lease) if is_new else Refused(Reason.ALREADY_HELD, "It runs.")

    def claim(connection: sa.Connection, lease: Lease) -> None:
        for uuid in lease.gpu_uuids:
            values = {"gpu_uuid": uuid, "lease_id": lease.id}
            connection.execute(sa.insert(tables.claims).prefix_with("OR REPLACE").values(values))

    switch.replace(Controller, "acquire", acquire)
    switch.replace(rows, "claim", claim)


def write_closing_last(switch: Switch) -> None:
    """*closing* is written before anyone looks whether the container is gone."""

    async def release(self: Any, lease_id: str, cause: Cause, **_: object) -> bool:
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is None or lease.state is LeaseState.CLOSED:
            return True
        if lease.state is not LeaseState.WAITING:
            try:
                await self._containers.remove(self._container_name(lease), 0)
            except Unknown:
                return False
        try:
            return bool(await original(self, lease_id, cause))
        except StaleLease:
            return True

    async def close(self: Any, lease: Lease) -> bool:
        to = self._ledger.requeue if lease.cause is Cause.INTERRUPTED else None
        try:
            if to is not None and lease.gpu_count:
                await self._in_ledger(to, lease)
            else:
                await self._in_ledger(
                    self._ledger.move, lease, LeaseState.CLOSED, now=self._clock()
                )
        except StaleLease:
            pass
        self._freed()
        return True

    original = LeaseLifecycle.release
    switch.replace(LeaseLifecycle, "release", release)
    switch.replace(LeaseLifecycle, "_close", close)


def free_without_proof(switch: Switch) -> None:
    """A lease is freed on proof of absence only."""
    original = Containers.remove

    async def remove(self: Containers, name: str, grace_seconds: int) -> None:
        try:
            await original(self, name, grace_seconds)
        except Unknown:
            return

    switch.replace(Containers, "remove", remove)


def take_an_error_for_absence(switch: Switch) -> None:
    """A 500 and a timeout say nothing about a container."""
    look, list_servers = Containers.inspect, Containers.list_servers

    async def inspect_anyway(self: Containers, name: str) -> ContainerStatus | None:
        try:
            return await look(self, name)
        except Unknown:
            return None

    async def list_anyway(self: Containers) -> tuple[ListedServer, ...]:
        try:
            return await list_servers(self)
        except Unknown:
            return ()

    switch.replace(Containers, "inspect", inspect_anyway)
    switch.replace(Containers, "list_servers", list_anyway)


def admit_before_reconcile(switch: Switch) -> None:
    """No spawn is admitted before reconcile has finished."""

    async def skip_reconcile(_: object) -> None:
        return

    switch.replace(Reconciliation, "reconcile", skip_reconcile)


def start_without_asking_the_ledger(switch: Switch) -> None:
    """A start is fenced by lease and epoch."""

    async def check_fence(_: object, __: object) -> None:
        return

    switch.replace(Broker, "_check_fence", check_fence)


def write_whatever_was_read(switch: Switch) -> None:
    """Every write is compare-and-set on lease id and epoch."""
    switch.replace(rows, "is_unchanged", lambda lease: tables.leases.c.id == lease.id)


def close_an_interrupted_start(switch: Switch) -> None:
    """A start that died with the hub keeps its place."""

    def requeue(self: Ledger, lease: Lease) -> Lease:
        return self.move(lease, LeaseState.CLOSED, now=0.0)

    switch.replace(Ledger, "requeue", requeue)


def clear_the_line_at_start(switch: Switch) -> None:
    """A waiting lease stays in the queue over a restart of the hub."""
    original: Callable[..., Awaitable[None]] = Reconciliation._reconcile_lease

    async def settle(self: Any, lease: Lease) -> None:
        if lease.state is LeaseState.WAITING:
            await self._leases.release(lease.id, Cause.LOST)
        else:
            await original(self, lease)

    switch.replace(Reconciliation, "_reconcile_lease", settle)


def give_out_a_gpu_in_quarantine(switch: Switch) -> None:
    """A GPU that failed is not granted until an admin releases it."""
    switch.replace(rows, "open_quarantines", lambda _: ())


def give_out_a_drained_gpu(switch: Switch) -> None:
    """A drained GPU is not granted until it is undrained."""
    switch.replace(rows, "drains", lambda _: ())


def end_a_lost_lease_at_start(switch: Switch) -> None:
    """A server whose GPU failed is its user's to stop."""
    original: Callable[..., Awaitable[None]] = Reconciliation._reconcile_lease

    async def settle(self: Any, lease: Lease) -> None:
        if lease.state is LeaseState.LOST:
            await self._leases.release(lease.id, Cause.LOST)
        else:
            await original(self, lease)

    switch.replace(
        reconcile, "_runs_as_recorded", lambda lease, _: lease.state is LeaseState.RUNNING
    )
    switch.replace(Reconciliation, "_reconcile_lease", settle)


def remove_a_granted_container_that_runs(switch: Switch) -> None:
    """A restored backup removes no running container."""
    switch.replace(Reconciliation, "_is_past_its_start", lambda _self, _status: False)


GO_ON = ("start", "go_on")
LENGTH = 15
RULES: dict[Callable[[Switch], None], Sequence[str]] = {
    claim_in_two_steps: (*GO_ON, "stop"),
    write_closing_last: (*GO_ON, "stop"),
    free_without_proof: (*GO_ON, "stop", "docker_is_in_trouble"),
    take_an_error_for_absence: ("start", "docker_is_in_trouble", "the_hub_is_killed"),
    admit_before_reconcile: ("start", "the_hub_is_killed", "a_clean_reconcile"),
    start_without_asking_the_ledger: (*GO_ON, "stop", "the_hub_is_paused", "the_paused_hub_ends"),
    write_whatever_was_read: (*GO_ON, "stop", "the_hub_is_paused"),
    close_an_interrupted_start: ("start", "a_clean_reconcile"),
    clear_the_line_at_start: ("start", "the_hub_is_killed"),
    give_out_a_gpu_in_quarantine: ("start", "a_gpu_changes", "the_gpus_are_looked_at"),
    give_out_a_drained_gpu: ("start", "a_gpu_is_drained"),
    end_a_lost_lease_at_start: (
        "start",
        "a_gpu_changes",
        "the_gpus_are_looked_at",
        "a_clean_reconcile",
    ),
    remove_a_granted_container_that_runs: (
        *GO_ON,
        "the_ledger_is_backed_up",
        "the_backup_is_restored",
    ),
}
"""Each switch with the steps that the search takes: as few as it needs, so that it finds quickly."""


def narrow(kept: Sequence[str]) -> type[LeaseProtocol]:
    """Return the search with no other steps than ``kept``."""
    steps = {name for name, step in vars(LeaseProtocol).items() if hasattr(step, RULE_MARKER)}
    assert steps > set(kept)
    return type("Narrowed", (LeaseProtocol,), dict.fromkeys(steps - set(kept)))


@pytest.mark.parametrize("switch_off", RULES, ids=lambda rule: rule.__name__)
def test_without_the_rule_a_promise_is_broken(
    switch_off: Callable[[Switch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = narrow(RULES[switch_off])
    quick = settings(SEARCH, phases=[Phase.generate], derandomize=True, stateful_step_count=LENGTH)
    run_state_machine_as_test(machine, settings=settings(quick, max_examples=20))

    switch = Switch(monkeypatch)
    switch_off(switch)
    # a promise, or the database's own guard behind it
    with pytest.raises((Violation, sa.exc.IntegrityError)) as found:
        run_state_machine_as_test(machine, settings=settings(quick, max_examples=EXAMPLES_TO_FIND))
    assert switch.is_off()
    print(str(found.value).partition("\n")[0])  # noqa: T201


def test_a_switch_that_changes_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(monkeypatch)
    assert switch.is_off() is False
    switch.replace(LeaseQueue, "withhold", LeaseQueue.withhold)
    assert switch.is_off() is False, "it never ran"
