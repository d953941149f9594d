"""Usage: people hold GPUs for a while, measured and not."""

from tests.hub.hub_env import HubEnvironment
from tests.hub.people import make_group
from tests.hub.servers import start, stop


async def work(hub_env: HubEnvironment, seconds: float, percent: int | None) -> None:
    """Let time pass in which the first GPU is that busy, and is looked at."""
    hub_env.agent.rest(0, utilization_percent=percent)
    for _ in range(int(seconds / 10)):
        hub_env.skip(10)
        await hub_env.workbench.gpu_sampler.sample()


async def two_people_compute(hub_env: HubEnvironment) -> None:
    """Alice of vision holds two GPUs for an hour, one of which computes for a quarter; then Bob holds one."""
    make_group(hub_env, "vision", "alice")
    hub_env.user("bob")
    await start(hub_env, "alice", {"gpus": 2})
    await work(hub_env, 600, 50)
    await stop(hub_env, "alice")
    await start(hub_env, "bob", {"gpus": 1})
    hub_env.agent.is_silent = True
    await work(hub_env, 300, 100)
    hub_env.agent.is_silent = False
