"""GPU panel server extension: registers the three routes below ``gpu-panel/``.

Importing it opens nothing: NVML and the hub are first used for the first client.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_server.utils import url_path_join

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "gpu_panel"}]


async def _start_jupyter_server_extension(server_app: ServerApp) -> None:
    """Start the memory watch, and activity reports to the hub; without a hub there are no reports."""
    import asyncio

    from gpu_panel.activity import Reporter, now, read_activity
    from gpu_panel.memory_watch import MemoryWatch

    settings = server_app.web_app.settings
    notices = settings["gpu_panel_notices"]
    watch = MemoryWatch(
        server_app.kernel_manager, server_app.session_manager.list_sessions, notices
    )
    settings["gpu_panel_memory_watch"] = asyncio.create_task(watch.run())
    lease = settings["gpu_panel_lease"]
    if lease.has_hub:
        reporter = Reporter(
            lease, lambda: read_activity(settings, now()), server_app.log, notices=notices
        )
        settings["gpu_panel_reporting"] = asyncio.create_task(reporter.run())


def _load_jupyter_server_extension(server_app: ServerApp) -> None:
    from gpu_panel.hub import Hub
    from gpu_panel.lease import LeaseWatch
    from gpu_panel.lease_handler import KeepAliveHandler, LeaseHandler
    from gpu_panel.notices import Notices
    from gpu_panel.nvml import NvmlReader
    from gpu_panel.sampler import Sampler
    from gpu_panel.server_reading import ServerReader
    from gpu_panel.stream_handler import StreamHandler

    root = url_path_join(server_app.web_app.settings["base_url"], "gpu-panel")
    lease = LeaseWatch(Hub.from_environment(os.environ), server_app.log)
    notices = Notices()
    sampler = Sampler(
        NvmlReader(),
        lease,
        server_app.log,
        read_server=ServerReader(Path.home()),
        notices=notices,
    )
    server_app.web_app.settings["gpu_panel_notices"] = notices
    routes = [
        (f"{root}/stream", StreamHandler, {"sampler": sampler}),
        (f"{root}/lease", LeaseHandler, {"lease": lease}),
        (f"{root}/keep-alive", KeepAliveHandler, {"lease": lease}),
    ]
    server_app.web_app.settings["gpu_panel_lease"] = lease
    server_app.web_app.add_handlers(".*$", routes)
