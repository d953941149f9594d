"""Answers as the gpu-agent of a host with any number of GPUs: ``python -m benchmarks.load.agent PORT GPUS``.

Every GPU is a copy of the first one in the contract's golden sample, with an index and a UUID of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

GOLDEN = Path(__file__).parents[2] / "tests/contract/agent-inventory.json"


def build_inventory(gpus: int) -> dict[str, Any]:
    """Return the inventory of a host with so many GPUs."""
    inventory: dict[str, Any] = json.loads(GOLDEN.read_text())
    first = inventory["gpus"][0]
    inventory["gpus"] = [
        {**first, "index": index, "uuid": f"{first['uuid'][:-12]}{index:012x}"}
        for index in range(gpus)
    ]
    return inventory


def main() -> None:
    """Serve until killed."""
    port, gpus = int(sys.argv[1]), int(sys.argv[2])
    body = json.dumps(build_inventory(gpus)).encode()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/inventory", answer)
    web.run_app(app, host="0.0.0.0", port=port, print=None, access_log=None)  # noqa: S104


if __name__ == "__main__":
    main()
