"""How servers end behind the hub's back, as their users and those who wait see it."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testing.eventually import eventually_sync
from testing.load import Crowd, SeenServer
from testing.scale import at_scale
from testing.stack import docker, run

log = logging.getLogger("tests.docker")

# an end is known within 3 s; without Docker's events it would be at the hub's next poll, after 10
NOTICED_SECONDS = 9
REQUESTS = at_scale(200, 1000)


def start(crowd: Crowd, name: str, gpus: int) -> SeenServer:
    crowd.add(name)
    crowd.ask(name, gpus=gpus)
    eventually_sync(lambda: crowd.is_ready(name), seconds=60, what=f"the server of {name} is ready")
    return crowd.containers()[name]


def begin_to_wait(crowd: Crowd, name: str, gpus: int) -> None:
    crowd.add(name)
    crowd.ask(name, gpus=gpus)
    assert crowd.waiting() == [name]


def is_clean(crowd: Crowd) -> bool:
    audit = crowd.audit()
    return (audit["code"], audit["findings"]) == (0, [])


def await_end(crowd: Crowd, name: str, cause: str) -> None:
    """Wait until the user is told that the server ended, and why; log how long that took."""
    began = time.monotonic()

    def told() -> Any:
        return crowd.lease(name)["last_end"]

    end = eventually_sync(told, seconds=NOTICED_SECONDS, what=f"the end of {name}'s server is told")
    assert end["cause"] == cause
    eventually_sync(lambda: not crowd.is_ready(name), seconds=NOTICED_SECONDS, what="the hub knows")
    log.info("%s was noticed after %.1f s", cause, time.monotonic() - began)
    (lease,) = [lease for lease in crowd.leases() if lease.user == name]
    assert (lease.state, lease.cause) == ("closed", cause)


def use_up_memory(server: SeenServer) -> None:
    """Let the kernel end the server, as it does with what has grown largest, at its memory limit."""
    first = docker("inspect", "-f", "{{.State.Pid}}", server.id)
    process = Path(f"/proc/{first}/task/{first}/children").read_text().split()[0]
    Path(f"/proc/{process}/oom_score_adj").write_text("1000")
    run("/usr/bin/docker", "exec", server.id, "tail", "/dev/zero")


def test_a_server_that_runs_out_of_memory_says_so_and_its_gpus_go_to_the_next(
    crowd: Crowd,
) -> None:
    gpus = len(crowd.stack.gpu_uuids)
    hungry = crowd.stack.person("hungry")
    assert hungry.start(gpus=gpus).is_success
    begin_to_wait(crowd, "next", gpus)
    crowd.renew_token("hungry")
    use_up_memory(crowd.containers()["hungry"])
    await_end(crowd, "hungry", "out_of_memory")
    assert "it ran out of memory" in hungry.client.get("/hub/home").text
    eventually_sync(lambda: crowd.is_ready("next"), seconds=60, what="the next one's turn comes")
    assert crowd.containers()["next"].given == {*crowd.stack.gpu_uuids}
    assert is_clean(crowd)


def test_a_server_removed_by_hand_says_so_and_its_gpus_go_to_the_next(crowd: Crowd) -> None:
    gpus = len(crowd.stack.gpu_uuids)
    server = start(crowd, "taken", gpus)
    begin_to_wait(crowd, "following", gpus)
    docker("rm", "--force", server.id)
    await_end(crowd, "taken", "lost")
    eventually_sync(lambda: crowd.is_ready("following"), seconds=60, what="the next one's turn comes")
    assert crowd.containers().keys() == {"following"}
    assert is_clean(crowd)


def test_a_server_restarted_by_hand_runs_on_for_the_same_lease(crowd: Crowd) -> None:
    before, other = start(crowd, "restarted", 2), start(crowd, "witness", 0)
    docker("restart", before.id)
    eventually_sync(lambda: crowd.is_served("restarted"), seconds=60, what="it answers again")
    docker("stop", other.id)
    await_end(crowd, "witness", "exited")  # so would the other end be known by now
    after = crowd.containers()["restarted"]
    assert (after.id, after.lease, after.given) == (before.id, before.lease, before.given)
    assert after.started_at != before.started_at
    assert crowd.lease("restarted")["state"] == "running"
    assert crowd.is_ready("restarted")
    assert is_clean(crowd)


def test_an_address_used_again_leads_nobody_to_anothers_server(crowd: Crowd) -> None:
    """As long as the hub cannot see Docker, nobody removes the route of a server that was removed by hand."""
    removed, other = start(crowd, "removed", 1), start(crowd, "moved", 1)
    address = address_of(crowd, removed)
    with broker_asleep(crowd):
        docker("rm", "--force", removed.id)
        docker("restart", other.id)
        assert address_of(crowd, other) == address
        eventually_sync(lambda: crowd.is_served("moved"), seconds=60, what="it answers again")
        path = "/user/removed/api"
        with ThreadPoolExecutor(16) as pool:
            answers = pool.map(lambda _: crowd.request("removed", "GET", path), range(REQUESTS))
        assert {answer and answer.status_code for answer in answers} == {503}
        assert path not in logged(other)
        # if one had come there, it would be seen
        knock = f"fetch('http://{address}:8888{path}')"
        docker("exec", f"{crowd.stack.instance}-proxy-1", "node", "-e", knock)
        assert path in logged(other)
    await_end(crowd, "removed", "lost")
    assert crowd.is_served("moved")
    assert is_clean(crowd)


@contextmanager
def broker_asleep(crowd: Crowd) -> Iterator[None]:
    """Let the hub hear nothing of Docker."""
    broker = f"{crowd.stack.instance}-broker-1"
    docker("pause", broker)
    try:
        yield
    finally:
        docker("unpause", broker)


def address_of(crowd: Crowd, server: SeenServer) -> str:
    network = f'(index .NetworkSettings.Networks "{crowd.stack.instance}-users")'
    return docker("inspect", "-f", f"{{{{{network}.IPAddress}}}}", server.id)


def logged(server: SeenServer) -> str:
    done = run("/usr/bin/docker", "logs", server.id)
    return done.stdout + done.stderr
