"""Answers as the gpu-agent of a host with any number of GPUs: ``python -m benchmarks.load.agent PORT GPUS``.

Every GPU is a copy of the first one in the contract's golden samples, with an index and a UUID of its own. Samples
change every second.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from aiohttp import web

from testing.paths import CONTRACT


def build_inventory(gpus: int) -> dict[str, Any]:
    """Return the inventory of a host with so many GPUs."""
    inventory: dict[str, Any] = json.loads((CONTRACT / "agent-inventory.json").read_text())
    first = inventory["gpus"][0]
    inventory["gpus"] = [
        {**first, "index": index, "uuid": f"{first['uuid'][:-12]}{index:012x}"}
        for index in range(gpus)
    ]
    return inventory


def build_samples(gpus: int, now: float) -> dict[str, Any]:
    """Return samples in which every GPU is busy, and differently so each second."""
    first = build_inventory(1)["gpus"][0]
    samples: dict[str, Any] = json.loads((CONTRACT / "agent-samples.json").read_text())
    golden, second = samples["gpus"][0], int(now)
    samples["gpus"] = [
        {
            **golden,
            "uuid": f"{first['uuid'][:-12]}{index:012x}",
            "utilization_percent": (second * 7 + index) % 100,
            "temperature_celsius": 40 + (second + index) % 30,
            "memory_used_bytes": (second * 31 + index) % 80 * 1024**3,
            "power_watts": 100.0 + (second + index) % 200,
            "processes": [],
        }
        for index in range(gpus)
    ]
    return samples


def main() -> None:
    """Serve until killed."""
    port, gpus = int(sys.argv[1]), int(sys.argv[2])
    body = json.dumps(build_inventory(gpus)).encode()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async def sample(_: web.Request) -> web.Response:
        return web.json_response(build_samples(gpus, time.time()))

    app = web.Application()
    app.router.add_get("/inventory", answer)
    app.router.add_get("/samples", sample)
    web.run_app(app, host="0.0.0.0", port=port, print=None, access_log=None)  # noqa: S104


if __name__ == "__main__":
    main()
