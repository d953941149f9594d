"""``workbench gpu`` against a running hub: a table, and exit codes for scripts."""

import json
import re

from spawner.model import GpuHealth
from testing.eventually import eventually
from tests.hub.hub_env import HubEnvironment
from tests.hub.servers import start
from tests.hub.shell import Shell


async def fall_ill(hub_env: HubEnvironment, index: int) -> None:
    hub_env.agent.set(index, health=GpuHealth.LOST)
    await eventually(lambda: bool(hub_env.ledger.quarantines()), "it is in quarantine")


async def test_every_gpu_is_one_line(hub_env: HubEnvironment, shell: Shell) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    assert await shell.run("gpu", "drain", "GPU-1", "--reason", "the fan is loud") == 0
    assert await shell.run("gpu") == 0
    heads, first, second = shell.out.splitlines()
    assert heads.split()[:5] == ["GPU", "UUID", "NAME", "HEALTH", "HOLDER"]
    name = "NVIDIA A100-SXM4-80GB (simulated)"
    assert re.split(r" {2,}", first) == ["0", "GPU-0", name, "ok", "alice"]
    assert "drained by you: the fan is loud" in second


async def test_a_quarantine_is_reported_and_ends_once(
    hub_env: HubEnvironment, shell: Shell
) -> None:
    await fall_ill(hub_env, 1)
    assert await shell.run("gpu") == 1
    assert "in quarantine since " in shell.out
    assert await shell.run("gpu", "--json") == 1
    _, gpu = json.loads(shell.out)["devices"]
    assert gpu["quarantine"]["reason"]
    assert await shell.run("gpu", "release", "GPU-1") == 1
    assert "still fails" in shell.err
    hub_env.agent.set(1, health=GpuHealth.OK)
    assert await shell.run("gpu", "release", "GPU-1") == 0
    assert shell.out == "gpu release GPU-1: done\n"
    assert await shell.run("gpu", "release", "GPU-1", "--json") == 1
    assert shell.err == "GPU 1 is not in quarantine: there is nothing to release.\n"


async def test_a_silent_agent_is_no_answer(hub_env: HubEnvironment, shell: Shell) -> None:
    await fall_ill(hub_env, 1)
    hub_env.agent.is_silent = True
    assert await shell.run("gpu") == 2
    assert "in quarantine" in shell.out, "what the ledger knows is told all the same"
    assert shell.err == "The state of the GPUs is unknown: The gpu-agent does not answer.\n"
    assert await shell.run("gpu", "release", "GPU-1") == 2
    assert shell.err == "The gpu-agent does not answer; try again in a moment.\n"


async def test_a_host_without_gpus(hub_env: HubEnvironment, shell: Shell) -> None:
    hub_env.agent.gpus.clear()
    assert await shell.run("gpu") == 0
    assert shell.out == "This workbench has no GPU.\n"
