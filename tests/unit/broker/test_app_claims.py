"""A fallen hub writes the ledger as it likes: the broker refuses what it can know to be false."""

from unittest.mock import AsyncMock

import pytest
import sqlalchemy as sa

from spawner.broker import log_tail
from spawner.broker.allowlist import Operation
from spawner.broker.app import _MAX_CONCURRENT
from spawner.ledger import tables
from spawner.ledger.database import transaction
from spawner.model import Account, Lease
from spawner.policy import names
from spawner.policy.container import build_home_preparation
from spawner.policy.uids import HUB_UID
from testing.fakes.docker_container import FakeContainer
from testing.fakes.docker_faults import Fault
from tests.unit.broker_env import (
    FIRST_UID,
    IMAGE_ID,
    INSTANCE,
    OTHER_UUID,
    TAG,
    UUID,
    BrokerEnvironment,
    forge,
)


def forge_account(broker_env: BrokerEnvironment, uid: int, user: str = "root") -> None:
    with transaction(broker_env.ledger._engine) as connection:
        row = {"number": uid - FIRST_UID, "identity": f"forged-{uid}", "user": user}
        connection.execute(sa.insert(tables.accounts).values(row))


async def start(broker_env: BrokerEnvironment, lease: Lease) -> tuple[int, str]:
    return await broker_env.request("POST", f"containers/{broker_env.name(lease)}/start")


async def launch(broker_env: BrokerEnvironment, lease: Lease) -> None:
    assert await broker_env.create(broker_env.body(lease), broker_env.name(lease)) == (201, "")
    assert await start(broker_env, lease) == (204, "")


@pytest.mark.parametrize("gpus", [["all"], ["0"], ["GPU-0"], ["/dev/nvidia0"], [UUID, UUID]])
async def test_a_gpu_that_is_not_named_by_its_uuid_is_refused(
    broker_env: BrokerEnvironment, gpus: list[str]
) -> None:
    forged = forge(broker_env, broker_env.lease, gpu_uuids=gpus)
    status, sentence = await broker_env.create(broker_env.body(forged))
    assert (status, sentence[:31]) == (403, "The broker refuses this lease: ")
    assert broker_env.engine.containers == {}


@pytest.mark.parametrize("uid", [0, 1000, FIRST_UID - 1, HUB_UID])
async def test_an_account_outside_the_range_gets_no_container(
    broker_env: BrokerEnvironment, uid: int
) -> None:
    forge_account(broker_env, uid)
    forged = forge(broker_env, broker_env.lease, uid=uid)
    assert (await broker_env.create(broker_env.body(forged)))[0] == 403
    account = Account(uid, "root", is_home_prepared=False)
    body = build_home_preparation(account, instance=INSTANCE, image_id=IMAGE_ID)
    name = names.preparation_name(INSTANCE, uid)
    assert (await broker_env.create(body, name))[0] == 403
    assert broker_env.engine.containers == {}


MIG = "MIG-51a0c0de-0000-4000-8000-0000000000f0"
OTHER_MIG = "MIG-51a0c0de-0000-4000-8000-0000000000f1"
NODES = {
    UUID: frozenset({"/dev/nvidia0"}),
    OTHER_UUID: frozenset({"/dev/nvidia1"}),
    MIG: frozenset({"/dev/nvidia0"}),
    OTHER_MIG: frozenset({"/dev/nvidia0"}),
}


@pytest.mark.parametrize(
    ("held", "wanted", "status"),
    [(MIG, UUID, 409), (UUID, MIG, 409), (MIG, OTHER_MIG, 201), (MIG, OTHER_UUID, 201)],
)
async def test_a_gpu_and_its_mig_instance_are_not_in_two_containers(
    broker_env: BrokerEnvironment, held: str, wanted: str, status: int
) -> None:
    broker_env.broker._conflicts._read_nodes = AsyncMock(return_value=NODES)
    await launch(broker_env, forge(broker_env, broker_env.lease, gpu_uuids=[held]))
    forged = forge(broker_env, broker_env.grant("bob", "GPU-51a0c0de-7"), gpu_uuids=[wanted])
    answer = await broker_env.create(broker_env.body(forged), broker_env.name(forged))
    assert answer[0] == status, answer
    assert status == 201 or "is the parent or an instance of a GPU in use" in answer[1]


async def test_a_gpu_in_use_is_not_given_again(broker_env: BrokerEnvironment) -> None:
    await launch(broker_env, broker_env.lease)
    bobs = broker_env.grant("bob", OTHER_UUID)
    forged = forge(broker_env, bobs, gpu_uuids=[UUID])
    refused = (
        409,
        f"GPU {UUID} is in use by lease {broker_env.lease.id}: no other container may have it.",
    )
    assert await broker_env.create(broker_env.body(forged), broker_env.name(forged)) == refused

    # neither by a container that was made before the GPU was taken
    body = broker_env.body(forged)
    broker_env.engine.add(broker_env.name(forged), body, is_running=False)
    assert await start(broker_env, forged) == refused
    broker_env.engine.end(broker_env.name(), 0)
    assert await start(broker_env, forged) == (204, "")


async def test_two_starts_at_once_do_not_share_a_gpu(broker_env: BrokerEnvironment) -> None:
    bobs = broker_env.grant("bob", OTHER_UUID)
    forged = forge(broker_env, bobs, gpu_uuids=[UUID])
    for lease in (broker_env.lease, forged):
        broker_env.engine.add(broker_env.name(lease), broker_env.body(lease), is_running=False)
    first = broker_env.engine.containers[broker_env.name()]
    with broker_env.broker._conflicts.starting(first.body["Labels"], first.id):
        assert (await start(broker_env, forged))[0] == 409
    assert await start(broker_env, forged) == (204, "")


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.GARBAGE, Fault.WRONG_SHAPE])
async def test_while_docker_lists_nothing_nothing_starts(
    broker_env: BrokerEnvironment, fault: Fault
) -> None:
    assert (await broker_env.create(broker_env.body()))[0] == 201
    broker_env.engine.plan("list", fault)
    assert (await start(broker_env, broker_env.lease))[0] == 503
    assert not broker_env.engine.containers[broker_env.name()].is_running
    assert await start(broker_env, broker_env.lease) == (204, "")


async def test_a_home_of_another_is_not_mounted(broker_env: BrokerEnvironment) -> None:
    home = names.home_volume(INSTANCE, "alice", broker_env.lease.uid)
    for labels in (
        None,
        {"workbench.instance": "other", "workbench.user": "alice"},
        {"workbench.instance": INSTANCE, "workbench.user": "bob"},
    ):
        broker_env.engine.volumes[home] = labels
        assert await broker_env.create(broker_env.body()) == (
            409,
            f"The volume {home} has not the labels of alice's home: see 'Back up' in docs/backup-upgrade.md.",
        )
    broker_env.engine.plan("volume", Fault.ERROR)
    assert (await broker_env.create(broker_env.body()))[0] == 503
    del broker_env.engine.volumes[home]
    assert (await broker_env.create(broker_env.body()))[0] == 201


async def test_a_home_in_use_is_not_prepared(broker_env: BrokerEnvironment) -> None:
    account = Account(broker_env.lease.uid, "alice", is_home_prepared=False)
    body = build_home_preparation(account, instance=INSTANCE, image_id=IMAGE_ID)
    name = names.preparation_name(INSTANCE, account.uid)
    assert (await broker_env.create(body, name))[0] == 201
    await launch(broker_env, broker_env.lease)
    refused = "A home is prepared only while no other container uses it: stop this user's servers."
    assert await broker_env.request("POST", f"containers/{name}/start") == (409, refused)
    broker_env.engine.end(broker_env.name(), 0)
    broker_env.engine.containers[name].is_running = True
    assert await start(broker_env, broker_env.lease) == (409, refused)


async def test_a_preparation_of_a_forged_container_is_not_started(
    broker_env: BrokerEnvironment,
) -> None:
    labels = {
        "workbench.instance": INSTANCE,
        "workbench.role": "prepare-home",
        "workbench.uid": "0",
    }
    broker_env.engine.containers["stray"] = FakeContainer("5", "stray", {"Labels": labels})
    assert (await broker_env.request("POST", "containers/stray/start"))[0] == 403


async def test_volumes_and_images_of_others_are_not_described(
    broker_env: BrokerEnvironment,
) -> None:
    broker_env.engine.volumes["wb-home-home-eve-20001"] = {
        "workbench.instance": "wb-home",
        "workbench.user": "eve",
    }
    assert (await broker_env.request("GET", "volumes/wb-home-home-eve-20001"))[0] == 403
    broker_env.engine.images["secret:latest"] = "sha256:2"
    for image in ("secret:latest", "sha256:2", IMAGE_ID):
        assert (await broker_env.request("GET", f"images/{image}/json"))[0] == 403
    assert (await broker_env.request("GET", f"images/{TAG}/json"))[0] == 200


async def test_a_long_log_is_cut_at_its_beginning(
    broker_env: BrokerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tail, "MAX_BYTES", 100)
    await launch(broker_env, broker_env.lease)
    broker_env.engine.containers[broker_env.name()].log = ["a" * 40, "b" * 40, "c" * 40]
    path = f"containers/{broker_env.name()}/logs?stdout=1&tail=20"
    async with broker_env.http.get(path) as response:
        raw = await response.read()
    assert (raw.count(b"a"), raw.count(b"b"), raw.count(b"c")) == (0, 40, 40)
    broker_env.engine.containers[broker_env.name()].log = ["a" * 200]
    status, sentence = await broker_env.request("GET", path)
    assert (status, "line of the log" in sentence) == (502, True)


async def test_requests_at_once_are_bounded(
    broker_env: BrokerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_MAX_CONCURRENT, Operation.PING, 4)
    with broker_env.broker._counted(Operation.PING):
        broker_env.broker._running[Operation.PING] = 4
        status, sentence = await broker_env.request("GET", "_ping")
        assert (status, sentence.endswith("try again.")) == (503, True)
        broker_env.broker._running[Operation.PING] = 1
    assert broker_env.broker._running[Operation.PING] == 0
    assert await broker_env.request("GET", "_ping") == (200, "")
