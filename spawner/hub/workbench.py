"""The parts that the hub's pages and spawners share, and the task that keeps the controller running.

The controller runs for as long as the hub does; an error ends neither silently.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from spawner.catalog import Catalog
from spawner.controller import Controller
from spawner.model import Options
from spawner.policy.options import parse_options
from spawner.settings import Settings

log = logging.getLogger("workbench.hub")

RESTART_SECONDS = 5.0


@dataclass(frozen=True)
class Workbench:
    """What a spawner needs of the rest of the package."""

    controller: Controller
    catalog: Catalog
    settings: Settings

    def parse(self, raw: object) -> Options:
        """Return the options in ``raw`` by the one closed schema; raises OptionsError."""
        return parse_options(
            raw, releases=tuple(self.catalog.releases), default_release=self.catalog.default
        )


async def keep_running(controller: Controller) -> None:
    """Run ``controller`` for ever; an error that ends it is logged and it begins anew."""
    while True:
        try:
            await controller.run()
        except Exception:  # whatever it was, leases must go on being closed
            log.exception("The controller failed; it starts again in %g s", RESTART_SECONDS)
        else:
            log.error("The controller ended; it starts again in %g s", RESTART_SECONDS)
        await asyncio.sleep(RESTART_SECONDS)
