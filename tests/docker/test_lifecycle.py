"""The life of servers on the whole running workbench: real Docker, real hub, real image; simulated GPUs."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from testing.eventually import eventually_sync
from testing.stack import Person, Stack, docker, running_stack

SEES = "import nvitop; print(*sorted(d.uuid() for d in nvitop.Device.all()))"


SITE = """
c = get_config()

def for_vera(given, others):
    return lambda spawner: given if spawner.user.name in ("vera", "wim") else others

c.DockerSpawner.read_only_volumes = for_vera({"%(folder)s": "/data/sets"}, {})
c.DockerSpawner.volumes = for_vera({"team-{username}": "/data/team"}, {})
c.DockerSpawner.environment = for_vera({"TEAM_USER": lambda spawner: spawner.user.name}, {})
c.DockerSpawner.extra_host_config = for_vera({"shm_size": "64m"}, {})
c.DockerSpawner.mem_limit = lambda spawner: {"vera": "512M", "wim": "2T"}.get(spawner.user.name)
"""
BOUNDS = """
memory = "1G"
environment = ["TEAM_*"]
host_config = ["ShmSize"]
mounts = [{source = "%(folder)s"}, {volume = "team-*", read_only = false}]
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    config = tmp_path_factory.mktemp("config")
    folder = Path(tempfile.mkdtemp(prefix="wbdocker-", dir="/srv"))  # no server sees /tmp
    folder.chmod(0o755)
    (folder / "set.txt").write_text("ten images\n")
    (config / "site.py").write_text(SITE % {"folder": folder})
    (config / "bounds.toml").write_text(BOUNDS % {"folder": folder})
    with running_stack("wbdocker", WORKBENCH_CONFIG_DIR=str(config)) as running:
        yield running
    docker("volume", "rm", "--force", "team-vera")
    shutil.rmtree(folder)


def has_position(person: Person, number: int) -> bool:
    return person.position == number


def is_pending(person: Person) -> bool:
    return person.server is not None and person.server["pending"] == "spawn"


@pytest.fixture(autouse=True)
def _no_server_outlives_its_test(stack: Stack) -> Iterator[None]:
    yield
    admin = stack.admin()
    for user in admin.api("GET", "/users").json():
        if user["servers"]:
            admin.api("DELETE", f"/users/{user['name']}/server")
    label = f"label=workbench.instance={stack.instance}"
    eventually_sync(
        lambda: (
            not docker("ps", "-aq", "--filter", label, "--filter", "label=workbench.role=server")
        ),
        seconds=60,
        what="all user containers are gone",
    )


def test_two_users_at_once_get_two_gpus_and_the_third_waits_for_the_first_that_is_given_back(
    stack: Stack,
) -> None:
    people = [stack.person(name) for name in ("ada", "bob", "cyd")]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda person: person.request_server(gpus=1), people))
    assert all(answer.is_success for answer in answers)
    eventually_sync(
        lambda: sum(is_ready(person) for person in people) == len(stack.gpu_uuids),
        seconds=120,
        what="as many servers run as there are GPUs",
    )
    winners = [person for person in people if is_ready(person)]
    (waits,) = [person for person in people if person not in winners]
    held = {p.name: stack.inside(p.name, "python", "-c", SEES) for p in winners}
    assert sorted(held.values()) == sorted(stack.gpu_uuids)
    assert waits.position == 1
    assert stack.containers(waits.name) == []
    line = waits.api("GET", "/workbench/queue").json()
    assert {holder["user"] for holder in line["holders"]} == set(held)

    winners[0].stop()
    eventually_sync(lambda: is_ready(waits), seconds=120, what="the third one's turn comes")
    assert waits.position is None
    assert stack.inside(waits.name, "python", "-c", SEES) == held[winners[0].name]


def is_ready(person: Person) -> bool:
    return person.server is not None and bool(person.server["ready"])


def test_who_gives_up_leaves_the_line_and_gets_nothing(stack: Stack) -> None:
    ona, pia, quin = (stack.person(name) for name in ("ona", "pia", "quin"))
    assert ona.start(gpus=2).is_success
    for number, person in enumerate((pia, quin), start=1):
        assert person.request_server(gpus=2).is_success
        eventually_sync(partial(has_position, person, number), seconds=30, what="a position")
    pia.stop()
    assert pia.position is None
    assert quin.position == 1
    ona.stop()
    eventually_sync(lambda: is_ready(quin), seconds=120, what="the next one's turn comes")
    assert stack.containers("pia") == []


def test_a_server_without_gpus_sees_none(stack: Stack) -> None:
    eve = stack.person("eve")
    assert eve.start(gpus=0).is_success
    assert stack.inside("eve", "python", "-c", SEES) == ""
    assert stack.inside("eve", "printenv", "NVIDIA_VISIBLE_DEVICES") == "void"


def test_a_server_has_what_the_site_file_gives_it_and_no_more(stack: Stack) -> None:
    vera, wim = stack.person("vera"), stack.person("wim")
    assert vera.start().is_success
    (name,) = stack.containers("vera")
    assert stack.inside("vera", "cat", "/data/sets/set.txt") == "ten images"
    mounted = {
        line.split()[1]: line.split()[3]
        for line in stack.inside("vera", "cat", "/proc/mounts").splitlines()
    }
    assert mounted["/data/sets"].startswith("ro,")
    assert mounted["/data/team"].startswith("rw,")
    assert stack.inside("vera", "printenv", "TEAM_USER") == "vera"
    assert stack.inside("vera", "printenv", "MEM_LIMIT") == str(512 * 1024**2)
    kept = "{{.HostConfig.Memory}} {{.HostConfig.ShmSize}}"
    assert docker("inspect", "--format", kept, name) == f"{512 * 1024**2} {64 * 1024**2}"
    refused = wim.request_server()
    assert refused.status_code >= httpx.codes.BAD_REQUEST
    assert "mem_limit" in refused.json()["message"]
    assert stack.containers("wim") == []


def test_a_container_is_its_users_own_and_has_no_power(stack: Stack) -> None:
    finn, gus = stack.person("finn"), stack.person("gus")
    assert finn.start(gpus=2).is_success
    assert gus.start().is_success
    uids = {stack.inside(name, "id", "-u") for name in ("finn", "gus")}
    assert len(uids) == 2
    assert all(int(uid) > 20000 for uid in uids)
    assert stack.inside("finn", "whoami") == "finn"
    status = stack.inside("finn", "cat", "/proc/self/status")
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    shm = stack.inside("finn", "df", "--output=size", "-BM", "/dev/shm")
    assert "1024M" in shm
    assert stack.inside("finn", "python", "-c", SEES).split() == sorted(stack.gpu_uuids)
    assert stack.inside("finn", "stat", "-c", "%U %a", "/home/researcher") == "finn 750"


def test_a_home_persists_and_is_no_one_elses(stack: Stack) -> None:
    hal = stack.person("hal")
    assert hal.start().is_success
    (first,) = stack.containers("hal")
    stack.inside("hal", "sh", "-c", "echo kept > ~/note.txt")
    fresh = stack.inside("hal", "find", "/home/researcher/examples", "-newermt", "1 hour ago")
    assert "/home/researcher/examples/simplenet.ipynb" in fresh.split()
    hal.stop()
    assert hal.start().is_success
    assert stack.containers("hal") != [first]
    assert stack.inside("hal", "cat", "/home/researcher/note.txt") == "kept"
    ida = stack.person("ida")
    assert ida.start().is_success
    assert "note.txt" not in stack.inside("ida", "ls", "/home/researcher")


def test_a_hub_restart_cuts_no_user_off_and_everyone_keeps_their_place(stack: Stack) -> None:
    jan, kim, liz = (stack.person(name) for name in ("jan", "kim", "liz"))
    assert jan.start(gpus=2).is_success
    before = stack.containers("jan")
    for number, person in enumerate((kim, liz), start=1):
        assert person.request_server(gpus=2).is_success
        eventually_sync(partial(has_position, person, number), seconds=30, what="a position")
    docker("restart", f"{stack.instance}-hub-1")
    eventually_sync(
        lambda: httpx.get(f"{stack.url}/hub/health").is_success, seconds=60, what="the hub answers"
    )
    assert stack.containers("jan") == before
    for number, person in enumerate((kim, liz), start=1):
        eventually_sync(
            partial(is_pending, person),
            seconds=60,
            what=f"{person.name} waits again",
        )
        assert person.position == number
    jan.stop()
    eventually_sync(lambda: is_ready(kim), seconds=120, what="kim's turn comes")
    assert liz.position == 1
    liz.stop()


def test_a_container_removed_by_hand_frees_its_gpu(stack: Stack) -> None:
    lou = stack.person("lou")
    assert lou.start(gpus=2).is_success
    docker("rm", "-f", *stack.containers("lou"))
    mia = stack.person("mia")
    assert mia.start(gpus=1).is_success
    assert is_ready(mia)


@pytest.fixture(scope="module")
def ned(stack: Stack) -> Person:
    return stack.person("ned")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"gpus": -1}, "is not a number of GPUs"),
        ({"gpus": 10**12}, "is not a number of GPUs"),
        ({"gpus": "two"}, "is not a number of GPUs"),
        ({"gpus": 1.5}, "is not a number of GPUs"),
        ({"gpus": 3}, "this workbench has 2"),
        ({"gpus": 1, "hours": 1000}, "your quota is 24 hours"),
        ({"hours": "long"}, "is not a number of hours"),
        ({"image": "debian"}, "'image' is not an option"),
        ({"release": "v1"}, "no release 'v1'"),
    ],
)
def test_a_bad_body_is_refused_and_leaves_nothing(
    stack: Stack, ned: Person, body: dict[str, object], said: str
) -> None:
    answer = ned.start(**body)
    assert httpx.codes.BAD_REQUEST <= answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR
    assert said in answer.json()["message"]
    assert ned.server is None
    assert stack.containers("ned") == []
