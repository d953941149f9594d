"""The hub is killed with ``kill -9`` at random points under load: no lease and no position in the queue is lost."""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections import Counter

from testing.eventually import eventually_sync
from testing.load import Load
from testing.scale import at_scale
from tests.docker.busy import Busy
from tests.docker.hub_deaths import Hub, differences

log = logging.getLogger("tests.docker")

KILLS = at_scale(5, 50)
WORKERS = [f"worker{number}" for number in range(8)]
STAYERS = {"stays-with-gpu": 1, "stays-without": 0}
# they wait for all GPUs, one of which does not come back while a server stays
PATIENT = ["patient1", "patient2", "patient3"]


def test_a_hub_that_is_killed_loses_nothing_and_no_ones_place(load: Load) -> None:
    seed = secrets.randbits(32)
    log.info("seed %d", seed)
    chance = random.Random(seed)  # noqa: S311
    load.add(*STAYERS, *WORKERS, *PATIENT)
    for name, gpus in STAYERS.items():
        load.request_server(name, gpus=gpus)
    eventually_sync(lambda: load.servers().keys() == {*STAYERS}, seconds=60, what="they are there")
    stayed = load.containers()
    hub = Hub(load)
    with Busy(load, WORKERS, chance).at_work() as busy:
        while hub.deaths < KILLS:
            if hub.deaths >= KILLS // 2 and PATIENT[0] not in load.waiting():
                load.at_once(lambda name: load.request_server(name, gpus=8), PATIENT)
            kill_and_compare(load, hub, busy, chance)
    assert busy.went_wrong == []
    assert {user: load.containers()[user] for user in STAYERS} == stayed
    load.stop_all([*WORKERS, *PATIENT, *STAYERS])
    assert load.containers() == {}
    assert [lease for lease in load.leases() if lease.cause is None] == []
    assert [one for one in load.answers if one.is_error and hub.was_up_for(one)] == []
    log.info("%d deaths, %s", hub.deaths, Counter(lease.cause for lease in load.leases()))
    log.info("%s", Counter(f"{one.method} {one.status}" for one in load.answers))


def kill_and_compare(load: Load, hub: Hub, busy: Busy, chance: random.Random) -> None:
    """Let people work, kill the hub amid it, sometimes the next ones too, and wait until all is as it was."""
    busy.go_on()
    time.sleep(chance.uniform(0.2, 8))
    deaths = [hub.kill()]
    busy.pause()
    while chance.random() < 0.25:
        time.sleep(chance.uniform(0, 3))  # the next one is only coming up
        deaths.append(hub.kill())
    assert [name for name in STAYERS if not load.is_served(name)] == []  # without a hub
    hub.await_next()
    left: list[str] = []

    def is_as_it_was() -> bool:
        left[:] = differences(load, deaths)
        return not left

    try:
        eventually_sync(is_as_it_was, seconds=60, what="all is as it was")
    except AssertionError as error:
        raise AssertionError(f"after death {hub.deaths}: {left}") from error
