"""Homes: lists the home volumes of the instance with their sizes, and removes those of accounts that are over.

Docker measures a volume by a walk over its files, which may take minutes: the sizes are those of the last measurement.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from spawner.broker.engine import Engine, Reply
from spawner.broker.errors import BrokerError
from spawner.model import Account
from spawner.policy import container as policy

log = logging.getLogger(__name__)

MEASURE_INTERVAL_SECONDS = 900.0
_MEASURE_SECONDS = 3600.0
_IDLE_FACTOR = 10  # a measurement takes a tenth of the time at most
_OK, _NOT_FOUND = 200, 404


class Homes:
    """The home volumes of one instance."""

    def __init__(self, engine: Engine, instance: str) -> None:
        """Take the dependencies; nothing is measured yet."""
        self._engine = engine
        self._instance = instance
        self._sizes: Mapping[str, int] = {}
        self._measured_at: str | None = None

    async def keep_measured(self) -> None:
        """Measure the homes again and again until cancelled."""
        while True:
            began = time.monotonic()
            try:
                await self.measure()
            except BrokerError as refusal:
                log.warning("Homes not measured: state=unknown reason=%s", refusal.sentence)
            took = time.monotonic() - began
            await asyncio.sleep(max(MEASURE_INTERVAL_SECONDS, _IDLE_FACTOR * took))

    async def measure(self) -> None:
        """Ask Docker for the size of every volume; raises BrokerError."""
        reply = await self._engine.request(
            "GET", "system/df", query={"type": "volume"}, seconds=_MEASURE_SECONDS
        )
        if reply.status != _OK:
            raise BrokerError(502, f"Docker measured no volume: status {reply.status}.")
        try:
            self._sizes = {
                str(volume["Name"]): int(volume["UsageData"]["Size"])
                for volume in reply.parse().get("Volumes") or ()
                if volume.get("UsageData") is not None
            }
        except (LookupError, TypeError, ValueError) as error:
            raise BrokerError(502, "Docker's answer has no sizes of volumes.") from error
        self._measured_at = datetime.now(UTC).isoformat()

    async def list(self) -> Reply:
        """Return the homes in the form of Docker's list of volumes, with their last measured sizes."""
        label = f"{policy.LABEL_INSTANCE}={self._instance}"
        query = {"filters": json.dumps({"label": [label]})}
        reply = await self._engine.request("GET", "volumes", query=query)
        if reply.status != _OK:
            return reply
        try:
            homes = [
                {
                    "Name": one["Name"],
                    "Labels": one["Labels"],
                    "UsageData": self._usage(one["Name"]),
                }
                for one in reply.parse().get("Volumes") or ()
                if read_home_owner(one, self._instance) is not None
            ]
        except (AttributeError, LookupError, TypeError) as error:
            raise BrokerError(502, "Docker's list of volumes cannot be read.") from error
        body = json.dumps({"Volumes": homes, "MeasuredAt": self._measured_at}).encode()
        return Reply(_OK, body, "application/json")

    async def remove(self, volume: str, account: Account) -> Reply:
        """Remove a home that no container has mounted; raises BrokerError for a volume of anyone else."""
        path = f"volumes/{volume}"
        described = await self._engine.request("GET", path)
        if described.status != _OK:
            return described
        if read_home_owner(described.parse(), self._instance) != account.user:
            raise BrokerError(403, f"{volume} is no home of {self._instance}.")
        # without ``force``: Docker itself refuses while any container, running or not, has the volume
        reply = await self._engine.request("DELETE", path, seconds=_MEASURE_SECONDS)
        log.warning(
            "Docker answered: operation=remove_home volume=%s status=%d", volume, reply.status
        )
        return reply

    def _usage(self, name: str) -> dict[str, int] | None:
        size = self._sizes.get(name, -1)
        return {"Size": size} if size >= 0 else None


def read_home_owner(volume: Mapping[str, Any], instance: str) -> str | None:
    """Return the user whose home a volume is by its labels, None if it is no home of ``instance``."""
    labels = volume.get("Labels") or {}
    is_ours = labels.get(policy.LABEL_INSTANCE) == instance
    return labels.get(policy.LABEL_USER) if is_ours else None
