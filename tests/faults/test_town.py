"""The town itself: everything is there, and the server that answers is one's own."""

from tests.faults.town import Town


async def test_a_server_runs_and_goes(town: Town) -> None:
    alice = await town.person("alice")
    await alice.start(gpus=1)
    assert (await alice.visit()) == {
        "container": town.container("alice").name, "user": "alice", "server": "",
    }  # fmt: skip
    assert await town.audit() == ()
    await alice.stop()
    assert town.engine.containers == {}
