"""The broker's closed list, as a table: what passes, what is refused, and tricks with paths."""

import pytest

from spawner.broker.allowlist import Operation, match_request
from spawner.broker.errors import BrokerError

ALLOWED = [
    ("GET", "/_ping", Operation.PING, "", {}),
    ("GET", "/v1.45/version", Operation.VERSION, "", {}),
    ("GET", "/v1.44/images/pytorch-cuda:v2.7/json", Operation.IMAGE, "pytorch-cuda:v2.7", {}),
    (
        "GET",
        "/images/registry:5000/team/lab:1/json",
        Operation.IMAGE,
        "registry:5000/team/lab:1",
        {},
    ),
    ("GET", "/v1.44/images/sha256:00ff/json", Operation.IMAGE, "sha256:00ff", {}),
    ("GET", "/v1.44/containers/json?all=1", Operation.LIST, "", {"all": "1"}),
    ("GET", "/v1.44/containers/json", Operation.LIST, "", {}),
    ("GET", "/v1.44/events", Operation.WATCH, "", {}),
    ("GET", "/volumes/wb-home-alice-20001", Operation.VOLUME, "wb-home-alice-20001", {}),
    ("GET", "/v1.44/volumes", Operation.HOMES, "", {}),
    (
        "DELETE",
        "/v1.44/volumes/wb-home-alice-20001",
        Operation.REMOVE_HOME,
        "wb-home-alice-20001",
        {},
    ),
    ("GET", "/v1.44/containers/wb-alice-lab-1/json", Operation.INSPECT, "wb-alice-lab-1", {}),
    (
        "GET",
        "/containers/a/logs?stdout=1&tail=20",
        Operation.LOG,
        "a",
        {"stdout": "1", "tail": "20"},
    ),
    ("POST", "/containers/a/wait", Operation.WAIT, "a", {}),
    ("POST", "/containers/a/stop?t=10", Operation.STOP, "a", {"t": "10"}),
    ("DELETE", "/containers/a", Operation.REMOVE, "a", {}),
    ("POST", "/containers/create?name=wb-a", Operation.CREATE, "", {"name": "wb-a"}),
    ("POST", "/containers/a/start", Operation.START, "a", {}),
]

REFUSED = [
    # other parts of the Engine API
    ("GET", "/info"),
    ("GET", '/events?filters={"type":["network"]}'),
    ("GET", "/events?since=0"),
    ("POST", "/events"),
    ("GET", "/images/json"),
    ("POST", "/images/create?fromImage=evil"),
    ("DELETE", "/images/pytorch-cuda:v2.7"),
    ("POST", "/build"),
    ("POST", "/session"),
    ("POST", "/grpc"),
    ("POST", "/commit?container=a"),
    ("DELETE", "/volumes/wb-home-alice-20001?force=1"),
    ("GET", "/volumes?filters={}"),
    ("POST", "/volumes/create"),
    ("POST", "/networks/workbench-users/connect"),
    ("POST", "/swarm/init"),
    ("POST", "/plugins/pull"),
    ("POST", "/containers/prune"),
    ("POST", "/volumes/prune"),
    # other things to do to a container
    ("POST", "/containers/a/exec"),
    ("POST", "/exec/0/start"),
    ("POST", "/containers/a/attach?stream=1"),
    ("GET", "/containers/a/attach/ws"),
    ("GET", "/containers/a/archive?path=/"),
    ("PUT", "/containers/a/archive?path=/"),
    ("POST", "/containers/a/update"),
    ("POST", "/containers/a/rename?name=b"),
    ("POST", "/containers/a/kill"),
    ("POST", "/containers/a/restart"),
    ("POST", "/containers/a/pause"),
    ("GET", "/containers/a/export"),
    ("GET", "/containers/a/stats"),
    ("GET", "/containers/a/top"),
    # the wrong method, or none of HTTP's
    ("POST", "/containers/json"),
    ("GET", "/containers/a/start"),
    ("PUT", "/containers/create?name=a"),
    ("HEAD", "/_ping"),
    ("post", "/containers/a/start"),
    ("CONNECT", "docker:80"),
    ("OPTIONS", "*"),
    # upper and lower case
    ("POST", "/Containers/a/start"),
    ("POST", "/containers/a/START"),
    ("GET", "/V1.44/_ping"),
    # paths that something later might read otherwise
    ("GET", "/v1.44/../containers/a/json"),
    ("GET", "/containers/../info"),
    ("GET", "/containers/a/../b/json"),
    ("GET", "/containers/./json"),
    ("GET", "/containers//json"),
    ("GET", "//containers/a/json"),
    ("GET", "/v1.44//containers/a/json"),
    ("GET", "/containers/a/json/"),
    ("GET", "/containers/a%2fattach/json"),
    ("GET", "/containers/a%2F..%2Fb/json"),
    ("GET", "/containers/%61/json"),
    ("GET", "/containers/a/json%00"),
    ("GET", "/containers/a/json%3Fx"),
    ("GET", "/containers/a\\b/json"),
    ("GET", "/containers/a;b/json"),
    ("GET", "/containers/a/json#x"),
    ("GET", "/containers/a\n/json"),
    ("GET", "/containers/a/json\n"),
    ("GET", "/containers/\u0430/json"),
    ("GET", "/containers/" + "a" * 129 + "/json"),
    ("GET", "/images/../containers/a/json"),
    ("GET", "/images/a/../../info/json"),
    ("GET", "/images//json"),
    ("GET", "/images/.hidden/json"),
    ("GET", "/v1.44/v1.44/_ping"),
    ("GET", "/v2.44/_ping"),
    ("GET", "/v1./_ping"),
    ("GET", "http://docker/_ping"),
    ("GET", "_ping"),
    ("GET", ""),
    # queries
    ("GET", '/containers/json?filters={"label":["workbench.instance=other"]}'),
    ("GET", "/containers/json?all=1&filters=%7B%7D"),
    ("GET", "/containers/json?all=1&all=0"),
    ("GET", "/containers/json?ALL=1"),
    ("GET", "/containers/json?all=1%26filters%3D%7B%7D"),
    ("GET", "/containers/json?all=1;filters={}"),
    ("GET", "/containers/json?all=2"),
    ("GET", "/containers/json?all=1%0A"),
    ("GET", "/containers/json?all"),
    ("GET", "/containers/json?&"),
    ("GET", "/containers/json?all=1?all=1"),
    ("GET", "/containers/json?" + "&".join(["all=1"] * 9)),
    ("GET", "/containers/a/json?size=1"),
    ("GET", "/containers/a/logs?follow=1"),
    ("GET", "/containers/a/logs?stdout=1"),
    ("GET", "/containers/a/logs?tail=0"),
    ("GET", "/containers/a/logs?tail=101"),
    ("GET", "/containers/a/logs?tail=all"),
    ("GET", "/containers/a/logs?tail=\u0661"),
    ("POST", "/containers/a/stop?t=-1"),
    ("POST", "/containers/a/stop?signal=SIGUSR1"),
    ("POST", "/containers/a/start?detachKeys=a"),
    ("DELETE", "/containers/a?v=1"),
    ("DELETE", "/containers/a?%76=1"),
    ("DELETE", "/containers/a?link=1"),
    ("DELETE", "/containers/a?force=1"),
    ("POST", "/containers/create?name=a&platform=linux/arm64"),
    ("POST", "/containers/create?name=../a"),
    ("POST", "/containers/create?name=/a"),
    ("POST", "/containers/create?name=" + "a" * 64),
    ("GET", "/containers/json?all=" + "1" * 2000),
]


@pytest.mark.parametrize(("method", "target", "operation", "subject", "query"), ALLOWED)
def test_what_the_hub_needs_is_allowed(
    method: str, target: str, operation: Operation, subject: str, query: dict[str, str]
) -> None:
    allowed = match_request(method, target)
    assert (allowed.operation, allowed.subject, allowed.query) == (operation, subject, query)


@pytest.mark.parametrize(("method", "target"), REFUSED, ids=lambda text: repr(text)[:60])
def test_anything_else_is_refused_with_one_sentence(method: str, target: str) -> None:
    with pytest.raises(BrokerError) as refused:
        match_request(method, target)
    assert refused.value.status == 403
    assert len(refused.value.sentence) < 400
    assert "\n" not in refused.value.sentence


def test_every_operation_has_a_rule() -> None:
    assert {row[2] for row in ALLOWED} == set(Operation)
