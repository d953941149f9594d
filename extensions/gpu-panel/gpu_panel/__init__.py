"""The GPU panel's Jupyter server extension: says what it brings and adds its one route.

Importing it opens nothing: NVML waits for the first client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_server.utils import url_path_join

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "gpu_panel"}]


def _load_jupyter_server_extension(server_app: ServerApp) -> None:
    from gpu_panel.handler import StreamHandler
    from gpu_panel.nvml import NvmlReader
    from gpu_panel.sampler import Sampler

    route = url_path_join(server_app.web_app.settings["base_url"], "gpu-panel", "stream")
    sampler = Sampler(NvmlReader(), server_app.log)
    server_app.web_app.add_handlers(".*$", [(route, StreamHandler, {"sampler": sampler})])
