"""Containers change without the hub: removed, restarted, killed for memory; and a second hub starts."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from spawner.catalog import Catalog
from spawner.clock import Clock
from spawner.containers import ContainerEnd, Containers, EventGap
from spawner.controller.end_watcher import EndWatcher
from spawner.controller.lease_lifecycle import LeaseLifecycle
from spawner.model import Cause, Lease, LeaseState
from spawner.serial_executor import SerialExecutor
from testing.eventually import eventually, eventually_sync
from testing.factories import make_release
from testing.stack import Stack, docker, run, running_stack
from tests.docker.conftest import RELEASE, Bench

# --- broker, ledger and ends before the real daemon


@pytest.fixture
async def leases(bench: Bench, containers: Containers) -> AsyncIterator[LeaseLifecycle]:
    """The hub's side of leases, with its ears open."""
    clock = Clock(bench.ledger)
    clock.start()
    release = make_release(name=RELEASE, image=bench.image, title="Tiny")
    catalog = Catalog(RELEASE, {RELEASE: release})
    leases = LeaseLifecycle(
        bench.ledger,
        containers,
        catalog,
        bench.settings,
        clock,
        SerialExecutor("ledger"),
        lambda: None,
    )
    following = asyncio.create_task(EndWatcher(containers, bench.ledger, leases).follow())
    yield leases
    assert not following.done()
    following.cancel()


async def run_server(
    bench: Bench, containers: Containers, leases: LeaseLifecycle, user: str
) -> Lease:
    lease = bench.grant(user)
    await bench.launch(containers, lease)
    await leases.confirm(lease.id)
    return lease


async def closed_for(bench: Bench, lease: Lease) -> Cause | None:
    def found() -> Lease:
        found = bench.ledger.lease(lease.id)
        assert found is not None
        return found

    await eventually(lambda: found().state is LeaseState.CLOSED)
    return found().cause


async def test_a_server_removed_by_hand_is_lost(
    bench: Bench, containers: Containers, leases: LeaseLifecycle
) -> None:
    lease = await run_server(bench, containers, leases, "alice")
    docker("rm", "--force", bench.name(lease))
    assert await closed_for(bench, lease) is Cause.LOST


async def test_a_server_killed_at_its_memory_limit_reports_it(
    bench: Bench, containers: Containers, leases: LeaseLifecycle
) -> None:
    lease = await run_server(bench, containers, leases, "alice")
    bench.inside(lease, "touch", "/tmp/hungry")
    assert await closed_for(bench, lease) is Cause.OUT_OF_MEMORY
    assert bench.all_containers() == []


async def test_a_process_killed_at_the_memory_limit_ends_no_server(
    bench: Bench, containers: Containers, leases: LeaseLifecycle
) -> None:
    lease = await run_server(bench, containers, leases, "alice")
    killed = run("/usr/bin/docker", "exec", bench.name(lease), "tail", "/dev/zero")
    assert killed.returncode == 137
    other = await run_server(bench, containers, leases, "bob")
    docker("stop", bench.name(other))
    assert await closed_for(bench, other) is Cause.EXITED
    docker("stop", bench.name(lease))
    assert await closed_for(bench, lease) is Cause.EXITED


async def test_a_server_restarted_by_hand_runs_on(
    bench: Bench, containers: Containers, leases: LeaseLifecycle
) -> None:
    lease = await run_server(bench, containers, leases, "alice")
    other = await run_server(bench, containers, leases, "bob")
    docker("restart", bench.name(lease))
    docker("stop", bench.name(other))
    await closed_for(bench, other)
    found = bench.ledger.lease(lease.id)
    assert found is not None
    assert found.state is LeaseState.RUNNING
    assert docker("inspect", "-f", "{{.State.Running}}", bench.name(lease)) == "true"


async def test_events_are_those_of_the_instances_own_servers(
    bench: Bench, containers: Containers
) -> None:
    heard: list[ContainerEnd | EventGap] = []

    async def listen() -> None:
        async with aclosing(containers.watch()) as watch:  # type: ignore[type-var]
            async for told in watch:
                heard.append(told)

    listener = asyncio.create_task(listen())
    await eventually(lambda: heard == [EventGap()])
    docker("run", "--rm", bench.image, "true")
    lease = bench.grant()
    await bench.launch(containers, lease)  # and the end of its home's preparation
    docker("rm", "--force", bench.name(lease))
    name = bench.name(lease)
    removed = [
        ContainerEnd(name, lease.id, 137, oom=False, is_removed=False),
        ContainerEnd(name, lease.id, None, oom=False, is_removed=True),
    ]
    await eventually(lambda: heard == [EventGap(), *removed])
    listener.cancel()


# --- the whole workbench


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack("wbfaults") as running:
        yield running


def audit(stack: Stack) -> tuple[int, object]:
    words = ("workbench", "audit", "run", "--no-network", "--json")
    done = run("/usr/bin/docker", "exec", f"{stack.instance}-hub-1", *words)
    return done.returncode, json.loads(done.stdout)["findings"]


def test_a_server_removed_by_hand_is_gone_from_the_hub_and_its_gpus_are_free(stack: Stack) -> None:
    ada, bob = stack.person("ada"), stack.person("bob")
    assert ada.start(gpus=2).is_success
    assert audit(stack) == (0, [])
    docker("rm", "--force", *stack.containers("ada"))
    eventually_sync(lambda: ada.server is None, seconds=20, what="the hub has noticed")
    logged = run("/usr/bin/docker", "logs", f"{stack.instance}-hub-1")
    assert "cause=lost" in logged.stdout + logged.stderr
    assert bob.start(gpus=2).is_success
    assert audit(stack) == (0, [])
    bob.stop()


def test_the_auditor_finds_a_home_that_was_removed(stack: Stack) -> None:
    cyd = stack.person("cyd")
    assert cyd.start().is_success
    cyd.stop()
    (home,) = docker("volume", "ls", "-q", "--filter", f"name={stack.instance}-home-cyd-").split()
    docker("volume", "rm", home)
    code, findings = audit(stack)
    assert code == 1
    assert isinstance(findings, list)
    assert [(f["rule"], f["subject"]) for f in findings] == [("home_missing", home)]
    labels = (f"workbench.instance={stack.instance}", "workbench.user=cyd")
    docker("volume", "create", *(f"--label={label}" for label in labels), home)
    assert audit(stack) == (0, [])


def test_a_second_hub_on_the_same_data_leaves_at_once(stack: Stack) -> None:
    hub = f"{stack.instance}-hub-1"
    second = run(
        "/usr/bin/docker", "run", "--rm", "--network", "none", "--volumes-from", hub,
        "gpu-workbench-hub:local",
    )  # fmt: skip
    assert second.returncode != 0
    assert "Another hub already uses /data" in second.stderr
    assert "Traceback" not in second.stderr
    assert audit(stack) == (0, [])
    assert docker("inspect", "-f", "{{.RestartCount}}", hub) == "0"
