"""How servers end behind the hub's back, as their users and those who wait see it."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testing.eventually import eventually_sync
from testing.load import Load, ObservedServer
from testing.scale import at_scale
from testing.stack import docker, run

log = logging.getLogger("tests.docker")

# an end is known within 3 s; without Docker's events it would be at the hub's next poll, after 10
NOTICED_SECONDS = 9
REQUESTS = at_scale(200, 1000)


def start(load: Load, name: str, gpus: int) -> ObservedServer:
    load.add(name)
    load.request_server(name, gpus=gpus)
    eventually_sync(lambda: load.is_ready(name), seconds=60, what=f"the server of {name} is ready")
    return load.containers()[name]


def begin_to_wait(load: Load, name: str, gpus: int) -> None:
    load.add(name)
    load.request_server(name, gpus=gpus)
    assert load.waiting() == [name]


def is_clean(load: Load) -> bool:
    audit = load.audit()
    return (audit["code"], audit["findings"]) == (0, [])


def await_end(load: Load, name: str, cause: str) -> None:
    """Wait until the user sees that the server ended, and why; log how long that took."""
    began = time.monotonic()

    def told() -> Any:
        return load.lease(name)["last_end"]

    end = eventually_sync(told, seconds=NOTICED_SECONDS, what=f"the end of {name}'s server is told")
    assert end["cause"] == cause
    eventually_sync(lambda: not load.is_ready(name), seconds=NOTICED_SECONDS, what="the hub knows")
    log.info("%s was noticed after %.1f s", cause, time.monotonic() - began)
    (lease,) = [lease for lease in load.leases() if lease.user == name]
    assert (lease.state, lease.cause) == ("closed", cause)


def use_up_memory(server: ObservedServer) -> None:
    """Let the kernel end the server, as it does with what has grown largest, at its memory limit."""
    first = docker("inspect", "-f", "{{.State.Pid}}", server.id)
    process = Path(f"/proc/{first}/task/{first}/children").read_text().split()[0]
    Path(f"/proc/{process}/oom_score_adj").write_text("1000")
    run("/usr/bin/docker", "exec", server.id, "tail", "/dev/zero")


def test_a_server_that_runs_out_of_memory_reports_it_and_its_gpus_go_to_the_next(
    load: Load,
) -> None:
    gpus = len(load.stack.gpu_uuids)
    hungry = load.stack.person("hungry")
    assert hungry.start(gpus=gpus).is_success
    begin_to_wait(load, "next", gpus)
    load.renew_token("hungry")
    use_up_memory(load.containers()["hungry"])
    await_end(load, "hungry", "out_of_memory")
    assert "it ran out of memory" in hungry.client.get("/hub/home").text
    eventually_sync(lambda: load.is_ready("next"), seconds=60, what="the next one's turn comes")
    assert load.containers()["next"].given == {*load.stack.gpu_uuids}
    assert is_clean(load)


def test_a_server_removed_by_hand_reports_it_and_its_gpus_go_to_the_next(load: Load) -> None:
    gpus = len(load.stack.gpu_uuids)
    server = start(load, "taken", gpus)
    begin_to_wait(load, "following", gpus)
    docker("rm", "--force", server.id)
    await_end(load, "taken", "lost")
    eventually_sync(
        lambda: load.is_ready("following"), seconds=60, what="the next one's turn comes"
    )
    assert load.containers().keys() == {"following"}
    assert is_clean(load)


def test_a_server_restarted_by_hand_runs_on_for_the_same_lease(load: Load) -> None:
    before, other = start(load, "restarted", 2), start(load, "witness", 0)
    docker("restart", before.id)
    eventually_sync(lambda: load.is_served("restarted"), seconds=60, what="it answers again")
    docker("stop", other.id)
    await_end(load, "witness", "exited")  # so would the other end be known by now
    after = load.containers()["restarted"]
    assert (after.id, after.lease, after.given) == (before.id, before.lease, before.given)
    assert after.started_at != before.started_at
    assert load.lease("restarted")["state"] == "running"
    assert load.is_ready("restarted")
    assert is_clean(load)


def test_an_address_used_again_leads_no_one_to_anothers_server(load: Load) -> None:
    """A hub that cannot see Docker keeps the route of a server that was removed by hand."""
    removed, other = start(load, "removed", 1), start(load, "moved", 1)
    address = address_of(load, removed)
    with broker_asleep(load):
        docker("rm", "--force", removed.id)
        docker("restart", other.id)
        assert address_of(load, other) == address
        eventually_sync(lambda: load.is_served("moved"), seconds=60, what="it answers again")
        path = "/user/removed/api"
        with ThreadPoolExecutor(16) as pool:
            answers = pool.map(lambda _: load.request("removed", "GET", path), range(REQUESTS))
        assert {answer and answer.status_code for answer in answers} == {503}
        assert path not in logged(other)
        # if one had come there, it would be seen
        knock = f"fetch('http://{address}:8888{path}')"
        docker("exec", f"{load.stack.instance}-proxy-1", "node", "-e", knock)
        assert path in logged(other)
    await_end(load, "removed", "lost")
    assert load.is_served("moved")
    assert is_clean(load)


@contextmanager
def broker_asleep(load: Load) -> Iterator[None]:
    """Let the hub hear nothing of Docker."""
    broker = f"{load.stack.instance}-broker-1"
    docker("pause", broker)
    try:
        yield
    finally:
        docker("unpause", broker)


def address_of(load: Load, server: ObservedServer) -> str:
    network = f'(index .NetworkSettings.Networks "{load.stack.instance}-users")'
    return docker("inspect", "-f", f"{{{{{network}.IPAddress}}}}", server.id)


def logged(server: ObservedServer) -> str:
    done = run("/usr/bin/docker", "logs", server.id)
    return done.stdout + done.stderr
