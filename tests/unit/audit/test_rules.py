"""The auditor finds each violation that is planted and nothing else."""

import ast
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spawner.audit.probes import read_lease_time
from spawner.audit.rules import ObservedState, Rule, audit, check_rules
from testing.paths import ROOT
from tests.unit.audit_env import AuditEnvironment
from tests.unit.broker_env import OTHER_UUID, UUID

LONG_AGO = time.time() - 601


async def test_a_world_in_order_is_clean(audit_env: AuditEnvironment) -> None:
    world = await audit_env.probe()
    assert check_rules(world) == ()
    assert [container.name for container in world.containers] == [
        audit_env.broker_env.name(audit_env.alice)
    ]
    assert {lease.user for lease in world.leases} == {"alice", "bob"}
    assert len(world.homes) == len(world.servers) == len(world.claims) == 1


def gpu_in_two(audit_env: AuditEnvironment) -> None:
    audit_env.run(audit_env.alice, name="wb-copy")


def no_lease(audit_env: AuditEnvironment) -> None:
    audit_env.run(audit_env.eve)


def waiting_lease(audit_env: AuditEnvironment) -> None:
    audit_env.run(audit_env.bob)
    audit_env.write("UPDATE leases SET state = 'waiting' WHERE id = :id", id=audit_env.bob.id)


def other_gpus(audit_env: AuditEnvironment) -> None:
    devices = [{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={OTHER_UUID}"]}]
    audit_env.run(audit_env.bob, DeviceRequests=devices)


def no_gpu(audit_env: AuditEnvironment) -> None:
    audit_env.broker_env.engine.containers.clear()
    audit_env.run(audit_env.alice, DeviceRequests=None)


def leaked_claim(audit_env: AuditEnvironment) -> None:
    audit_env.write("INSERT INTO claims VALUES (:uuid, :id)", uuid=OTHER_UUID, id=audit_env.eve.id)


def no_claim(audit_env: AuditEnvironment) -> None:
    audit_env.write("DELETE FROM claims")


def stuck_start(audit_env: AuditEnvironment) -> None:
    audit_env.write(
        "UPDATE leases SET granted_at = :at WHERE id = :id", at=LONG_AGO, id=audit_env.bob.id
    )


def stuck_end(audit_env: AuditEnvironment) -> None:
    statement = "UPDATE leases SET state = 'closing', ended_at = :at WHERE id = :id"
    audit_env.write(statement, at=LONG_AGO, id=audit_env.alice.id)


def vanished(audit_env: AuditEnvironment) -> None:
    audit_env.broker_env.engine.containers.clear()


def exited(audit_env: AuditEnvironment) -> None:
    audit_env.broker_env.engine.end(audit_env.broker_env.name(audit_env.alice), 1)


def never_began(audit_env: AuditEnvironment) -> None:
    """A GPU failed while a server on it was starting, and the lease did not end."""
    audit_env.broker_env.engine.containers.clear()
    statement = "UPDATE leases SET state = 'lost', granted_at = :at WHERE id = :id"
    audit_env.write(statement, at=LONG_AGO, id=audit_env.alice.id)


def granted_ill(audit_env: AuditEnvironment) -> None:
    quarantine(audit_env, since=LONG_AGO)


def granted_drained(audit_env: AuditEnvironment) -> None:
    drain(audit_env, since=LONG_AGO)


def no_cause(audit_env: AuditEnvironment) -> None:
    audit_env.write("UPDATE leases SET cause = NULL WHERE id = :id", id=audit_env.eve.id)


def deleted_user(audit_env: AuditEnvironment) -> None:
    audit_env.forget_user("bob")


def home_removed(audit_env: AuditEnvironment) -> None:
    audit_env.broker_env.engine.volumes.clear()


def anothers_container(audit_env: AuditEnvironment) -> None:
    audit_env.serve("mallory", audit_env.broker_env.name(audit_env.alice))


def own_other_server(audit_env: AuditEnvironment) -> None:
    audit_env.serve("alice", audit_env.broker_env.name(audit_env.alice), server="second")


def ended_container(audit_env: AuditEnvironment) -> None:
    audit_env.serve("eve", audit_env.broker_env.name(audit_env.eve))


def address(audit_env: AuditEnvironment) -> None:
    audit_env.serve("eve", "172.18.0.5")


PLANTED: list[tuple[Callable[[AuditEnvironment], None], set[Rule]]] = [
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
    audit_env: AuditEnvironment, plant: Callable[[AuditEnvironment], None], rules: set[Rule]
) -> None:
    plant(audit_env)
    findings = check_rules(await audit_env.probe())
    assert {finding.rule for finding in findings} == rules
    assert len(findings) == len(rules)
    assert all("\n" not in finding.sentence for finding in findings)


def test_every_rule_has_its_violation() -> None:
    planted = set().union(*(rules for _, rules in PLANTED))
    # a probe finds that one, no comparison: tests/unit/audit/test_network.py
    assert planted == set(Rule) - {Rule.REACHABLE_FROM_SERVERS}


async def test_who_is_just_starting_or_ending_breaks_no_rule(audit_env: AuditEnvironment) -> None:
    audit_env.run(audit_env.bob)  # not confirmed yet
    audit_env.write("UPDATE leases SET state = 'closing' WHERE id = :id", id=audit_env.alice.id)
    assert check_rules(await audit_env.probe()) == ()
    audit_env.broker_env.engine.containers.clear()
    assert check_rules(await audit_env.probe()) == ()


async def test_whose_gpu_failed_under_them_breaks_no_rule(audit_env: AuditEnvironment) -> None:
    quarantine(audit_env, since=time.time())
    audit_env.write("UPDATE leases SET state = 'lost' WHERE id = :id", id=audit_env.alice.id)
    assert check_rules(await audit_env.probe()) == ()
    audit_env.write("UPDATE leases SET state = 'running' WHERE id = :id", id=audit_env.alice.id)
    audit_env.write("UPDATE quarantines SET returned_at = 1.0")
    assert check_rules(await audit_env.probe()) == (), "granted after an admin returned it"


def quarantine(audit_env: AuditEnvironment, since: float) -> None:
    statement = "INSERT INTO quarantines (gpu_uuid, reason, since) VALUES (:uuid, '', :since)"
    audit_env.write(statement, uuid=UUID, since=since)


async def test_who_has_a_gpu_when_it_is_drained_keeps_it(audit_env: AuditEnvironment) -> None:
    drain(audit_env, since=time.time())
    assert check_rules(await audit_env.probe()) == ()


def drain(audit_env: AuditEnvironment, since: float) -> None:
    statement = (
        "INSERT INTO drains (gpu_uuid, reason, \"by\", since) VALUES (:uuid, '', '', :since)"
    )
    audit_env.write(statement, uuid=UUID, since=since)


@pytest.mark.parametrize("close", [quarantine, drain])
async def test_who_was_adopted_on_such_a_gpu_had_it_before(
    audit_env: AuditEnvironment, close: Callable[[AuditEnvironment, float], None]
) -> None:
    close(audit_env, LONG_AGO)
    assert len(check_rules(await audit_env.probe())) == 1
    audit_env.write(
        "INSERT INTO trail (at, actor, action, subject) VALUES (1, 'the hub', 'lease.adopted', :lease)",
        lease=f"lease {audit_env.alice.id}",
    )
    assert check_rules(await audit_env.probe()) == ()


# --- what counts


async def worlds(
    audit_env: AuditEnvironment, plant: Callable[[AuditEnvironment], None]
) -> tuple[ObservedState, ObservedState]:
    clean = await audit_env.probe()
    plant(audit_env)
    return await audit_env.probe(), clean


@pytest.mark.parametrize(("plant", "counts"), [(vanished, False), (gpu_in_two, True)])
async def test_only_a_double_booking_counts_that_is_over_a_moment_later(
    audit_env: AuditEnvironment,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[AuditEnvironment], None],
    counts: bool,
) -> None:
    monkeypatch.setattr("spawner.audit.rules.SETTLE_SECONDS", 0)
    broken, clean = await worlds(audit_env, plant)
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
        "spawner.network_probe.Attempt",
        "spawner.network_probe.Outcome",
        "spawner.network_probe.REACHED",
        "spawner.network_probe.SERVER_PORT",
        "spawner.network_probe.connect",
        "spawner.policy.probe_container.HUB_IMAGE",
        "spawner.policy.probe_container.build_probes",
        "spawner.policy.probe_container.probe_names",
    }


def test_it_counts_by_the_lease_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr("time.time", lambda: 5e9)  # the wall clock is set
    here = {"boot_id": boot_id, "offset_seconds": 1000.0, "at": 1.0}
    assert boottime + 1000 <= read_lease_time(here) < 5e9
    assert read_lease_time({**here, "boot_id": "before"}) == 5e9
    assert read_lease_time({**here, "boot_id": "before", "at": 6e9}) == 6e9
    assert read_lease_time(None) == 5e9
