"""Health: every part that does not work is named."""

from typing import Any

from testing.fakes.docker_faults import Fault
from tests.hub.hub_env import HubEnvironment


async def read_health(hub_env: HubEnvironment) -> tuple[int, dict[str, Any]]:
    async with hub_env.client("alice") as client:
        answer = await client.get("/hub/api/workbench/health")
    return answer.status_code, answer.json()


async def test_each_part_that_does_not_work_is_named(hub_env: HubEnvironment) -> None:
    well = dict.fromkeys(("ledger", "docker", "gpu_agent", "disk"))
    assert await read_health(hub_env) == (200, {"is_healthy": True, "parts": well})
    hub_env.agent.is_silent = True
    hub_env.workbench.running_leases._task = None
    hub_env.engine.plan("list", *[Fault.ERROR] * 3)
    hub_env.workbench.disk._is_low, hub_env.workbench.disk._free = True, 2**30
    hub_env.workbench.disk._total = 2**40
    status, said = await read_health(hub_env)
    assert (status, said["is_healthy"], said["parts"]["ledger"]) == (503, False, None)
    assert "Docker" in said["parts"]["docker"]
    assert said["parts"]["gpu_agent"]
    assert "Only 1.0 GiB of 1.0 TiB are free" in said["parts"]["disk"]
