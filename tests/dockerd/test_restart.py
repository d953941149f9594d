"""Docker itself is restarted under the running workbench; a layer of its own, for it stops everything on the machine.

Docker ends every container. The services come back by themselves; people's servers do not, and their users see why.
"""

from collections.abc import Iterator

import pytest

from testing.eventually import eventually_sync
from testing.load import Load
from testing.paths import ROOT
from testing.stack import docker, run, running_stack

# as scripts/up does it
RESTART = """
set -euo pipefail
lib=$PWD/scripts/lib
. "$lib/terminal.sh"
. "$lib/docker.sh"
choose_client
stop_docker
start_docker
"""
SERVICES = ("proxy", "hub", "broker", "gpu-agent")


@pytest.fixture
def load() -> Iterator[Load]:
    with running_stack("wbdockerd", WORKBENCH_MEMORY_LIMIT="1G", WORKBENCH_SHM_SIZE="256M") as one:
        yield Load(one)


def test_after_a_restart_of_docker_the_line_goes_on(load: Load) -> None:
    holders, cpu_only, waiting = ("ann", "ben"), "cat", ("dora", "emil")
    load.add(*holders, cpu_only, *waiting)
    for name, gpus in (*((name, 1) for name in holders), (cpu_only, 0)):
        load.request_server(name, gpus=gpus)
    ended = {*holders, cpu_only}
    eventually_sync(lambda: load.servers().keys() == ended, seconds=120, what="they are there")
    docker("exec", load.containers()["ann"].id, "touch", "/home/researcher/kept")
    for name in waiting:
        load.request_server(name, gpus=2)
    assert load.waiting() == [*waiting]
    before = {name: load.containers()[name] for name in ended}

    restarted = run("bash", "-c", RESTART, cwd=ROOT)
    assert restarted.returncode == 0, restarted.stdout + restarted.stderr

    eventually_sync(lambda: all_healthy(load), seconds=180, what="the services are back")
    eventually_sync(
        lambda: load.servers().keys() == {"dora"}, seconds=120, what="the next one's turn"
    )
    assert load.containers().keys() == {"dora"}
    assert load.containers()["dora"].given == {*load.stack.gpu_uuids}
    assert load.waiting() == ["emil"]
    assert {name: load.lease(name)["last_end"]["cause"] for name in ended} == dict.fromkeys(
        ended, "exited"
    )
    leases = load.leases()
    assert [lease.id for lease in leases if lease.user in ended] == [
        before[lease.user].lease for lease in leases if lease.user in ended
    ]
    audit = load.audit()
    assert (audit["code"], audit["findings"]) == (0, [])
    load.stop_all(["emil", "dora"])
    load.request_server("ann", gpus=1)
    eventually_sync(lambda: load.is_ready("ann"), seconds=60, what="ann is back")
    assert docker("exec", load.containers()["ann"].id, "ls", "/home/researcher/kept")


def all_healthy(load: Load) -> bool:
    names = (f"{load.stack.instance}-{service}-1" for service in SERVICES)
    looks = [run("/usr/bin/docker", "inspect", "-f", "{{.State.Health.Status}}", n) for n in names]
    return all(look.stdout.strip() == "healthy" for look in looks)
