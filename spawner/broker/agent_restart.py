"""Starts the gpu-agent again where Docker itself could not.

A daemon without the mend of moby issue 49989 brings containers back before it has CDI, so what has GPUs stays down
after each restart of the machine. Only a start that failed is repeated: whom somebody stopped stays stopped.
"""

from __future__ import annotations

import asyncio
import json
import logging

from spawner.broker.engine import Engine
from spawner.broker.errors import BrokerError

log = logging.getLogger("workbench.broker")

LOOK_SECONDS = 10.0
SERVICE = "gpu-agent"
_BAD_REQUEST = 400


async def keep_agent_running(engine: Engine, instance: str) -> None:
    """Look after the agent of ``instance`` for ever."""
    while True:
        try:
            await restart_failed_agent(engine, instance)
        except BrokerError as refusal:
            log.warning("Nobody knows whether the %s runs: %s", SERVICE, refusal.sentence)
        await asyncio.sleep(LOOK_SECONDS)


async def restart_failed_agent(engine: Engine, instance: str) -> None:
    """Start the agent once more if its last start failed; raises BrokerError where Docker cannot be asked."""
    labels = [f"com.docker.compose.project={instance}", f"com.docker.compose.service={SERVICE}"]
    query = {"all": "1", "filters": json.dumps({"label": labels})}
    listed = await engine.request("GET", "containers/json", query=query)
    for row in listed.parse_list():
        path = f"containers/{row['Id']}"
        state = (await engine.request("GET", f"{path}/json")).parse().get("State", {})
        if state.get("Status") != "exited" or not state.get("Error"):
            continue
        started = await engine.request("POST", f"{path}/start")
        outcome = "runs again" if started.status < _BAD_REQUEST else started.parse().get("message")
        log.warning("The %s was not started by Docker (%s): %s", SERVICE, state["Error"], outcome)
