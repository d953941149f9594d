"""Agent restart: starts the gpu-agent again after Docker failed to start it.

Without the fix of moby issue 49989, a daemon restores containers before it has loaded CDI. Containers with GPUs then
stay down after a restart of the machine. Only a failed start is repeated: a stopped agent stays stopped.
"""

from __future__ import annotations

import asyncio
import json
import logging

from spawner.broker.engine import Engine
from spawner.broker.errors import BrokerError

log = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
SERVICE = "gpu-agent"
_BAD_REQUEST = 400


async def keep_agent_running(engine: Engine, instance: str) -> None:
    """Check the agent of ``instance`` until cancelled."""
    while True:
        try:
            await restart_failed_agent(engine, instance)
        except BrokerError as refusal:
            log.warning(
                "Agent unknown: service=%s state=unknown reason=%s", SERVICE, refusal.sentence
            )
        await asyncio.sleep(CHECK_SECONDS)


async def restart_failed_agent(engine: Engine, instance: str) -> None:
    """Start the agent once more if its last start failed; raises BrokerError if Docker does not answer."""
    labels = [f"com.docker.compose.project={instance}", f"com.docker.compose.service={SERVICE}"]
    query = {"all": "1", "filters": json.dumps({"label": labels})}
    listed = await engine.request("GET", "containers/json", query=query)
    for row in listed.parse_list():
        path = f"containers/{row['Id']}"
        state = (await engine.request("GET", f"{path}/json")).parse().get("State", {})
        if state.get("Status") != "exited" or not state.get("Error"):
            continue
        started = await engine.request("POST", f"{path}/start")
        outcome = "running" if started.status < _BAD_REQUEST else started.parse().get("message")
        log.warning(
            "Agent restarted: service=%s state=%s reason=%s", SERVICE, outcome, state["Error"]
        )
