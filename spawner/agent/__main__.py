"""Entry point of the gpu-agent: ``python -m spawner.agent [--port 9201]``.

The port is its only setting.
"""

from __future__ import annotations

import argparse
import sys

from aiohttp import web

from spawner.agent.nvml import Nvml
from spawner.agent.sampler import Sampler
from spawner.agent.server import build_app


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 0xFFFF:
        raise argparse.ArgumentTypeError(f'"{text}" is not a port: give a number from 1 to 65535')
    return int(text)


def main() -> None:
    """Serve until a signal; an unavailable port ends with one sentence and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m spawner.agent", description="The gpu-agent.")
    parser.add_argument("--port", type=_port, default=9201, help="default: %(default)s")
    port: int = parser.parse_args().port
    try:
        web.run_app(build_app(Sampler(Nvml().report)), port=port, access_log=None, print=None)
    except OSError as error:
        sys.stderr.write(
            f"The gpu-agent cannot listen on port {port}: {error.strerror}. Choose another with --port.\n"
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
