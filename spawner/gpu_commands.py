"""The commands ``workbench gpus`` and ``workbench return-gpu``: GPUs from the shell of the hub's machine.

They read ledger and agent for themselves, so they work while no hub runs; nothing but a return is written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from spawner.audit.looks import read_lease_time
from spawner.gpus import Agent
from spawner.health import Health
from spawner.ledger import Ledger
from spawner.model import Gpu, GpuHealth, Quarantine, Refused, SettingsError, Unknown
from spawner.off_loop import OffLoop
from spawner.policy.words import name_gpu
from spawner.settings import Settings

WELL, ILL, UNKNOWN = 0, 1, 2
BY = "the command line"

_Work = Callable[[Ledger, Agent, argparse.Namespace], Coroutine[Any, Any, int]]


def add_gpu_commands(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type to itself
    """Add both to the ``commands`` of a parser."""
    command = commands.add_parser("gpus", help="list every GPU, who holds it and what is wrong")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=lambda flags: _run(_list_gpus, flags))
    command = commands.add_parser(
        "return-gpu", help="let a GPU in quarantine be given to people again"
    )
    command.add_argument("uuid", metavar="UUID", help="as `workbench gpus` prints it")
    command.set_defaults(run=lambda flags: _run(_return_gpu, flags))


def _run(work: _Work, flags: argparse.Namespace) -> int:
    async def run() -> int:
        settings = Settings.from_environ(os.environ)
        ledger = Ledger.open_existing(settings.ledger_url, first_uid=settings.first_uid)
        agent = Agent(settings.agent_url)
        try:
            return await work(ledger, agent, flags)
        finally:
            await agent.close()
            ledger.close()

    try:
        return asyncio.run(run())
    except (SettingsError, Unknown) as error:
        sys.stderr.write(f"Nobody knows how the GPUs are: {error}\n")
        return UNKNOWN


async def _list_gpus(ledger: Ledger, agent: Agent, flags: argparse.Namespace) -> int:
    gpus = {gpu.uuid: gpu for gpu in await agent.inventory()}
    quarantines = {quarantine.gpu_uuid: quarantine for quarantine in ledger.quarantines()}
    users = {uuid: lease.user for lease in ledger.live_leases() for uuid in lease.gpu_uuids}
    ahead = time.time() - _read_time(ledger)
    drains = {drain.gpu_uuid: drain.reason for drain in ledger.drains()}
    rows = [
        {
            **_describe(uuid, gpus.get(uuid), users.get(uuid), quarantines.get(uuid), ahead),
            "drained": drains.get(uuid),
        }
        for uuid in dict.fromkeys((*gpus, *quarantines, *drains))
    ]
    if flags.json:
        sys.stdout.write(json.dumps({"gpus": rows}) + "\n")
    else:
        sys.stdout.writelines(_say(row) for row in rows)
        if not rows:
            sys.stdout.write("This workbench has no GPU.\n")
    return ILL if any(_is_ill(row) for row in rows) else WELL


async def _return_gpu(ledger: Ledger, agent: Agent, flags: argparse.Namespace) -> int:
    health = Health(ledger, OffLoop("ledger"), agent, lambda: _read_time(ledger), lambda: None)
    answer = await health.return_gpu(flags.uuid, BY)
    if isinstance(answer, Refused):
        sys.stderr.write(f"{answer.message}\n")
        return ILL
    sys.stdout.write(f"{flags.uuid} can be given to people again.\n")
    return WELL


def _read_time(ledger: Ledger) -> float:
    heartbeat = ledger.heartbeat()
    return read_lease_time(None if heartbeat is None else vars(heartbeat))


def _describe(
    uuid: str, gpu: Gpu | None, user: str | None, quarantine: Quarantine | None, ahead: float
) -> dict[str, Any]:
    """Return one GPU as JSON has it; wall-clock times are ``ahead`` seconds ahead of the lease clock's."""
    since = None if quarantine is None else datetime.fromtimestamp(quarantine.since + ahead, UTC)
    return {
        "uuid": uuid,
        "title": gpu and name_gpu(gpu),
        "name": gpu and gpu.name,
        "mig_profile": gpu and gpu.mig_profile,
        "health": (GpuHealth.UNKNOWN if gpu is None else gpu.health).value,
        "holder": user,
        "quarantine": quarantine
        and {"reason": quarantine.reason, "since": f"{since:%Y-%m-%dT%H:%M:%SZ}"},
    }


def _is_ill(row: Mapping[str, Any]) -> bool:
    return row["quarantine"] is not None or row["health"] != GpuHealth.OK.value


def _say(row: Mapping[str, Any]) -> str:
    quarantine = row["quarantine"]
    words: Sequence[str | None] = (
        row["title"],
        row["name"],
        row["mig_profile"],
        row["uuid"],
        f"health {row['health']}",
        row["holder"] and f"held by {row['holder']}",
        row["drained"] and f"drained: {row['drained']}",
        quarantine and f"in quarantine since {quarantine['since']}: it {quarantine['reason']}",
    )
    return ", ".join(word for word in words if word) + "\n"
