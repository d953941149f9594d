"""GPU nodes: reads from the host's CDI specifications which device nodes each GPU and MIG instance has.

A MIG instance has the node of its parent GPU (``/dev/nvidia0``) and capability nodes of its own. A whole GPU therefore
conflicts with each instance on the same node; two instances of one GPU do not conflict.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

log = logging.getLogger(__name__)

FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
"""Docker's own places of specifications."""
_KIND = "nvidia.com/gpu"
_GPU_NODE = re.compile(r"/dev/nvidia[0-9]+")


def read_gpu_nodes(folders: Iterable[Path] = FOLDERS) -> Mapping[str, frozenset[str]]:
    """Return the nodes of GPUs by device name; a file that cannot be read is logged and names nothing."""
    nodes: dict[str, frozenset[str]] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.*")):
            try:
                specification = yaml.safe_load(file.read_text())
                if specification["kind"] == _KIND:
                    nodes |= {one["name"]: _nodes_of(one) for one in specification["devices"]}
            except (OSError, UnicodeError, yaml.YAMLError, LookupError, TypeError) as error:
                log.warning("CDI file unreadable: file=%s reason=%s", file, str(error)[:200])
    return nodes


def get_related_gpu(
    first: Iterable[str], second: Iterable[str], nodes: Mapping[str, frozenset[str]]
) -> str | None:
    """Return a GPU of ``first`` that is the parent or an instance of one of ``second``, None without one."""
    for mine in first:
        for other in second:
            is_one_whole = mine.startswith("GPU-") or other.startswith("GPU-")
            if is_one_whole and nodes.get(mine, frozenset()) & nodes.get(other, frozenset()):
                return mine
    return None


def _nodes_of(device: Mapping[str, Mapping[str, Iterable[Mapping[str, str]]]]) -> frozenset[str]:
    listed = device["containerEdits"].get("deviceNodes") or ()
    return frozenset(node["path"] for node in listed if _GPU_NODE.fullmatch(node["path"]))
