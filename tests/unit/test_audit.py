"""The auditor finds each violation that is planted and nothing else."""

import ast
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spawner.audit.probes import read_lease_time
from spawner.audit.rules import Rule, World, audit, judge
from tests.unit.audit_town import AuditTown
from tests.unit.broker_house import OTHER_UUID, UUID

ROOT = Path(__file__).parents[2]
LONG_AGO = time.time() - 601


async def test_a_world_in_order_is_clean(town: AuditTown) -> None:
    world = await town.look()
    assert judge(world) == ()
    assert [container.name for container in world.containers] == [town.house.name(town.alice)]
    assert {lease.user for lease in world.leases} == {"alice", "bob"}
    assert len(world.homes) == len(world.servers) == len(world.claims) == 1


def gpu_in_two(town: AuditTown) -> None:
    town.run(town.alice, name="wb-copy")


def no_lease(town: AuditTown) -> None:
    town.run(town.eve)


def waiting_lease(town: AuditTown) -> None:
    town.run(town.bob)
    town.write("UPDATE leases SET state = 'waiting' WHERE id = :id", id=town.bob.id)


def other_gpus(town: AuditTown) -> None:
    devices = [{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={OTHER_UUID}"]}]
    town.run(town.bob, DeviceRequests=devices)


def no_gpu(town: AuditTown) -> None:
    town.house.engine.containers.clear()
    town.run(town.alice, DeviceRequests=None)


def leaked_claim(town: AuditTown) -> None:
    town.write("INSERT INTO claims VALUES (:uuid, :id)", uuid=OTHER_UUID, id=town.eve.id)


def no_claim(town: AuditTown) -> None:
    town.write("DELETE FROM claims")


def stuck_start(town: AuditTown) -> None:
    town.write("UPDATE leases SET granted_at = :at WHERE id = :id", at=LONG_AGO, id=town.bob.id)


def stuck_end(town: AuditTown) -> None:
    statement = "UPDATE leases SET state = 'closing', ended_at = :at WHERE id = :id"
    town.write(statement, at=LONG_AGO, id=town.alice.id)


def vanished(town: AuditTown) -> None:
    town.house.engine.containers.clear()


def exited(town: AuditTown) -> None:
    town.house.engine.end(town.house.name(town.alice), 1)


def never_began(town: AuditTown) -> None:
    """A GPU failed while a server on it was starting, and nobody ended the lease."""
    town.house.engine.containers.clear()
    statement = "UPDATE leases SET state = 'lost', granted_at = :at WHERE id = :id"
    town.write(statement, at=LONG_AGO, id=town.alice.id)


def granted_ill(town: AuditTown) -> None:
    quarantine(town, since=LONG_AGO)


def granted_drained(town: AuditTown) -> None:
    drain(town, since=LONG_AGO)


def no_cause(town: AuditTown) -> None:
    town.write("UPDATE leases SET cause = NULL WHERE id = :id", id=town.eve.id)


def deleted_user(town: AuditTown) -> None:
    town.forget_user("bob")


def home_removed(town: AuditTown) -> None:
    town.house.engine.volumes.clear()


def anothers_container(town: AuditTown) -> None:
    town.serve("mallory", town.house.name(town.alice))


def own_other_server(town: AuditTown) -> None:
    town.serve("alice", town.house.name(town.alice), server="second")


def ended_container(town: AuditTown) -> None:
    town.serve("eve", town.house.name(town.eve))


def address(town: AuditTown) -> None:
    town.serve("eve", "172.18.0.5")


PLANTED: list[tuple[Callable[[AuditTown], None], set[Rule]]] = [
    (gpu_in_two, {Rule.GPU_IN_TWO_CONTAINERS, Rule.CONTAINER_WITHOUT_LEASE}),
    (no_lease, {Rule.CONTAINER_WITHOUT_LEASE}),
    (waiting_lease, {Rule.CONTAINER_WITHOUT_LEASE}),
    (other_gpus, {Rule.OTHER_GPUS_THAN_LEASED}),
    (no_gpu, {Rule.OTHER_GPUS_THAN_LEASED}),
    (leaked_claim, {Rule.CLAIM_WITHOUT_LEASE}),
    (no_claim, {Rule.CLAIM_WITHOUT_LEASE}),
    (stuck_start, {Rule.LEASE_WITHOUT_CONTAINER}),
    (stuck_end, {Rule.LEASE_WITHOUT_CONTAINER}),
    (vanished, {Rule.LEASE_WITHOUT_CONTAINER}),
    (exited, {Rule.LEASE_WITHOUT_CONTAINER}),
    (never_began, {Rule.LEASE_WITHOUT_CONTAINER}),
    (granted_ill, {Rule.GRANTED_IN_QUARANTINE}),
    (granted_drained, {Rule.GRANTED_WHILE_DRAINED}),
    (no_cause, {Rule.CLOSED_WITHOUT_CAUSE}),
    (deleted_user, {Rule.LEASE_OF_NOBODY}),
    (home_removed, {Rule.HOME_MISSING}),
    (anothers_container, {Rule.SERVER_AT_WRONG_CONTAINER}),
    (own_other_server, {Rule.SERVER_AT_WRONG_CONTAINER}),
    (ended_container, {Rule.SERVER_AT_WRONG_CONTAINER}),
    (address, {Rule.SERVER_AT_WRONG_CONTAINER}),
]


@pytest.mark.parametrize(("plant", "rules"), PLANTED)
async def test_a_planted_violation_is_found_and_nothing_else(
    town: AuditTown, plant: Callable[[AuditTown], None], rules: set[Rule]
) -> None:
    plant(town)
    findings = judge(await town.look())
    assert {finding.rule for finding in findings} == rules
    assert len(findings) == len(rules)
    assert all("\n" not in finding.sentence for finding in findings)


def test_every_rule_has_its_violation() -> None:
    assert set().union(*(rules for _, rules in PLANTED)) == set(Rule)


async def test_who_is_just_starting_or_ending_breaks_no_rule(town: AuditTown) -> None:
    town.run(town.bob)  # not confirmed yet
    town.write("UPDATE leases SET state = 'closing' WHERE id = :id", id=town.alice.id)
    assert judge(await town.look()) == ()
    town.house.engine.containers.clear()
    assert judge(await town.look()) == ()


async def test_whose_gpu_failed_under_them_breaks_no_rule(town: AuditTown) -> None:
    quarantine(town, since=time.time())
    town.write("UPDATE leases SET state = 'lost' WHERE id = :id", id=town.alice.id)
    assert judge(await town.look()) == ()
    town.write("UPDATE leases SET state = 'running' WHERE id = :id", id=town.alice.id)
    town.write("UPDATE quarantines SET returned_at = 1.0")
    assert judge(await town.look()) == (), "granted after an admin returned it"


def quarantine(town: AuditTown, since: float) -> None:
    statement = "INSERT INTO quarantines (gpu_uuid, reason, since) VALUES (:uuid, '', :since)"
    town.write(statement, uuid=UUID, since=since)


async def test_who_has_a_gpu_when_it_is_drained_keeps_it(town: AuditTown) -> None:
    drain(town, since=time.time())
    assert judge(await town.look()) == ()


def drain(town: AuditTown, since: float) -> None:
    statement = (
        "INSERT INTO drains (gpu_uuid, reason, \"by\", since) VALUES (:uuid, '', '', :since)"
    )
    town.write(statement, uuid=UUID, since=since)


@pytest.mark.parametrize("close", [quarantine, drain])
async def test_who_was_adopted_on_such_a_gpu_had_it_before(
    town: AuditTown, close: Callable[[AuditTown, float], None]
) -> None:
    close(town, LONG_AGO)
    assert len(judge(await town.look())) == 1
    town.write(
        "INSERT INTO trail (at, actor, action, subject) VALUES (1, 'the hub', 'lease.adopted', :lease)",
        lease=f"lease {town.alice.id}",
    )
    assert judge(await town.look()) == ()


# --- what counts


async def worlds(town: AuditTown, plant: Callable[[AuditTown], None]) -> tuple[World, World]:
    clean = await town.look()
    plant(town)
    return await town.look(), clean


@pytest.mark.parametrize(("plant", "counts"), [(vanished, False), (gpu_in_two, True)])
async def test_only_a_double_booking_counts_that_is_over_a_moment_later(
    town: AuditTown,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[AuditTown], None],
    counts: bool,
) -> None:
    monkeypatch.setattr("spawner.audit.rules.SETTLE_SECONDS", 0)
    broken, clean = await worlds(town, plant)
    looks = iter([broken, clean])
    _, findings = audit(lambda: next(looks))
    assert {finding.rule for finding in findings} == (
        {Rule.GPU_IN_TWO_CONTAINERS} if counts else set()
    )
    assert {finding.rule for finding in audit(lambda: broken)[1]} >= {
        finding.rule for finding in findings
    }
    assert audit(lambda: broken)[1] != ()


# --- independence


def test_the_auditor_shares_only_nouns_and_names() -> None:
    shared = set()
    for file in (ROOT / "spawner/audit").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("spawner"):
                shared |= {f"{node.module}.{alias.name}" for alias in node.names}
    outside = {name for name in shared if not name.startswith(("spawner.audit.", "spawner.model."))}
    assert outside == {
        "spawner.policy.names",
        "spawner.policy.container.LABEL_ROLE",
        "spawner.policy.container.ROLE_SERVER",
        "spawner.ledger.tables.VERSION",
    }


def test_it_counts_by_the_lease_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr("time.time", lambda: 5e9)  # somebody sets the wall clock
    here = {"boot_id": boot_id, "offset_seconds": 1000.0, "at": 1.0}
    assert boottime + 1000 <= read_lease_time(here) < 5e9
    assert read_lease_time({**here, "boot_id": "before"}) == 5e9
    assert read_lease_time({**here, "boot_id": "before", "at": 6e9}) == 6e9
    assert read_lease_time(None) == 5e9
