"""Broker process: serves the broker on a unix socket, with ``python -m spawner.broker``.

Only root and the hub's group may use the socket; the broker listens nowhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from spawner.bounds_file import BOUNDS_FILE, FOLDER, load_bounds
from spawner.broker.agent_restart import keep_agent_running
from spawner.broker.app import Broker
from spawner.broker.engine import Engine
from spawner.broker.trail_copy import TrailCopy
from spawner.catalog import Catalog, load_catalog
from spawner.guard_state import FILE, read_host_addresses, require_guard
from spawner.ledger import Ledger
from spawner.model import SettingsError
from spawner.policy.uids import HUB_UID
from spawner.settings import Settings

log = logging.getLogger("spawner.broker")  # __name__ is "__main__" here

SHUTDOWN_SECONDS = 5.0  # for a running create or start; Docker kills the broker after 10


def lazy_ledger(url: str, first_uid: int) -> Callable[[], Ledger]:
    """Return a function that opens the ledger once and raises Unknown until the hub has created it.

    The broker never creates the file: root would own it, and the hub could not write to it.
    """
    lock = threading.Lock()
    opened: list[Ledger] = []

    def ledger() -> Ledger:
        with lock:
            if not opened:
                opened.append(Ledger.open_existing(url, first_uid=first_uid, read_only=True))
            return opened[0]

    return ledger


async def serve(broker: Broker, socket_path: Path, group: int) -> web.ServerRunner:
    """Listen on ``socket_path`` for ``group``; the caller cleans up the runner."""
    # lingering: the broker does not read the rest of a body that is too large
    server = web.Server(broker.handle, access_log=None, lingering_time=1.0)
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    before = os.umask(0o117)  # mode 0660 from the start: no other user can connect in between
    try:
        await web.UnixSite(runner, str(socket_path)).start()
    finally:
        os.umask(before)
    # the hub owns the folder: a link in the socket's place must not hand another file to it
    os.chown(socket_path, -1, group, follow_symlinks=False)
    return runner


async def _run(flags: argparse.Namespace, settings: Settings, catalog: Catalog) -> None:
    engine = Engine(flags.docker)
    ledger = lazy_ledger(settings.ledger_url, settings.first_uid)
    broker = Broker(
        engine,
        ledger,
        instance=settings.instance,
        limits=settings.limits,
        require_walls=lambda: require_guard(flags.guard_state),
        host_addresses=lambda: read_host_addresses(flags.guard_state),
        images={name: release.image for name, release in catalog.releases.items()},
        first_uid=settings.first_uid,
        bounds=load_bounds(flags.bounds, settings.instance),
    )
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    runner = await serve(broker, flags.listen, flags.group)
    log.info("Listening: socket=%s", flags.listen)
    watches = (
        asyncio.create_task(keep_agent_running(engine, settings.instance)),
        asyncio.create_task(broker.homes.keep_measured()),
        asyncio.create_task(TrailCopy(ledger).run()),
    )
    await ended.wait()
    for watch in watches:
        watch.cancel()
    broker.events.close()
    await runner.cleanup()
    await engine.close()


def main() -> int:
    """Run until SIGTERM; return the exit code."""
    parser = argparse.ArgumentParser("python -m spawner.broker", description=__doc__)
    parser.add_argument("--listen", type=Path, default=Path("/run/workbench/docker.sock"))
    parser.add_argument("--docker", default="/var/run/docker.sock", help="the daemon's socket")
    parser.add_argument("--group", type=int, default=HUB_UID, help="gid that may connect")
    parser.add_argument("--catalog", type=Path, default=Path("/etc/workbench/catalog.toml"))
    parser.add_argument("--bounds", type=Path, default=FOLDER / BOUNDS_FILE)
    parser.add_argument("--guard-state", type=Path, default=FILE, help="file of the network guard")
    flags = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_run(flags, Settings.from_environ(os.environ), load_catalog(flags.catalog)))
    except (SettingsError, OSError) as error:
        sys.stderr.write(f"The broker cannot run: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
