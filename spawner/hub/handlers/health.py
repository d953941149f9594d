"""REST API of the workbench's health: says which of its parts does not work.

``/hub/health`` of JupyterHub says only that the hub's process answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from http import HTTPStatus

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require
from spawner.hub.handlers.api_base import GetWorkbench, Route, WorkbenchApiHandler
from spawner.hub.handlers.operation import operation
from spawner.hub.schema.records import UnhealthyWorkbenchJson, WorkbenchHealthJson
from spawner.hub.unavailable import RETRY_AFTER_SECONDS
from spawner.model import Unknown

CHECK_SECONDS = 5.0


class HealthHandler(WorkbenchApiHandler):
    """``GET /hub/api/workbench/health``."""

    @operation(
        "readHealth",
        "Say which part does not work.",
        scope=scopes.READ_GPUS,
        answers="Every part works.",
        answer=WorkbenchHealthJson,
        trouble=UnhealthyWorkbenchJson,
    )
    async def get(self) -> None:
        """Answer 200 if every part works, else 503; each part has null or one sentence."""
        require(self, scopes.READ_GPUS, scopes.ADMIN)
        workbench = self.workbench
        checks: dict[str, Awaitable[object]] = {
            "ledger": workbench.ledger_snapshot(),
            "docker": workbench.running_leases(),
            "gpu_agent": workbench.gpus.inventory(),
        }
        answers = await asyncio.gather(*map(_explain, checks.values()))
        parts = {**dict(zip(checks, answers, strict=True)), "disk": workbench.disk.trouble}
        failing = [name for name, reason in parts.items() if reason]
        answer: WorkbenchHealthJson = {"is_healthy": not failing, "parts": parts}
        if failing:
            status = HTTPStatus.SERVICE_UNAVAILABLE.value
            self.set_status(status)
            self.set_header("Retry-After", str(RETRY_AFTER_SECONDS))
            message = f"Not working: {', '.join(failing)}."
            trouble: UnhealthyWorkbenchJson = {
                **answer,
                "status": status,
                "message": message,
            }
            answer = trouble
        self.finish(json.dumps(answer))


def health_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the route, below the hub's prefix."""
    return [("/api/workbench/health", HealthHandler, {"get_workbench": get_workbench})]


async def _explain(check: Awaitable[object]) -> str | None:
    """Return why ``check`` fails, None if it succeeds."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except Unknown as error:
        return str(error)
    except TimeoutError:
        return f"It did not answer within {CHECK_SECONDS:g} s."
    return None
