"""More people than GPUs, all at once: as many run as there are GPUs, and the others get their turn in order."""

from collections.abc import Sequence

import httpx

from testing.eventually import eventually_sync
from testing.load import Load
from testing.scale import at_scale

PEOPLE = at_scale(20, 200)
ROUNDS = at_scale(2, 20)


def test_gpus_go_round_in_the_order_in_which_people_came(load: Load) -> None:
    gpus = len(load.stack.gpu_uuids)
    people = [f"round{number:03}" for number in range(PEOPLE)]
    load.add(*people, "late")
    answers = load.at_once(lambda name: load.request_server(name, gpus=1, hours=1), people)
    assert {answer and answer.status_code for answer in answers} <= {
        httpx.codes.CREATED,
        httpx.codes.ACCEPTED,
    }
    load.request_server("late", gpus=1, hours=1)
    order = [lease.user for lease in load.leases() if lease.user in {*people, "late"}]
    assert sorted(order) == sorted([*people, "late"])
    assert order[-1] == "late"
    for number in range(ROUNDS):
        turn = order[gpus * number : gpus * (number + 1)]
        rest = order[gpus * (number + 1) :]
        wait_for_grant(load, turn)
        everything_agrees(load, turn, rest)
        if number < ROUNDS - 1:
            load.at_once(load.stop, turn)
    grants = [lease for lease in load.leases() if lease.user in order and lease.granted_at]
    assert [one.user for one in sorted(grants, key=lambda one: one.granted_at or 0.0)] == (
        order[: gpus * ROUNDS]
    )
    load.stop_all(order[gpus * (ROUNDS - 1) :])
    ends = [lease for lease in load.leases() if lease.user in order]
    assert {(lease.state, lease.cause) for lease in ends} == {("closed", "user")}
    assert len(ends) == len(order)
    assert [answer for answer in load.answers if answer.is_error] == []
    assert load.logged_errors() == []


def wait_for_grant(load: Load, turn: Sequence[str]) -> None:
    eventually_sync(
        lambda: load.servers().keys() == {*turn},
        seconds=120,
        what=f"the servers of {turn} run, and no others",
    )


def everything_agrees(load: Load, turn: Sequence[str], rest: Sequence[str]) -> None:
    """Hub, Docker, ledger and auditor say: ``turn`` have one GPU each, ``rest`` wait in this order."""
    servers = load.containers()
    assert sorted(servers) == sorted(turn)
    assert sorted(uuid for one in servers.values() for uuid in one.given) == sorted(
        load.stack.gpu_uuids
    )
    live = load.live_leases()
    held = {lease.user: lease for lease in live if lease.gpu_uuids}
    assert {lease.state for lease in held.values()} == {"running"}
    assert {user: (one.lease, one.given, one.gpus) for user, one in servers.items()} == {
        user: (lease.id, frozenset(lease.gpu_uuids), frozenset(lease.gpu_uuids))
        for user, lease in held.items()
    }
    assert [lease.user for lease in live if lease.state == "waiting"] == [*rest]
    assert load.waiting() == [*rest]
    assert [name for name in turn if not load.is_served(name)] == []
    audit = load.audit()
    assert (audit["code"], audit["findings"]) == (0, [])
    assert audit["looked_at"]["containers"] == len(turn)
