"""Says in which container a process of this host runs.

The kernel's own word counts (the cgroup), never what a process says of itself.
"""

from __future__ import annotations

import re
from pathlib import Path

_CONTAINER_ID = re.compile(r"(?:^|[/-])([0-9a-f]{64})(?:\.scope)?(?=/|$)", re.MULTILINE)


def get_container_id(pid: int, proc: Path = Path("/proc")) -> str | None:
    """Return the 64-digit container id of a PID; ``None`` outside containers or when it is gone.

    Paths of cgroup v1 and v2, by the cgroupfs (``/docker/<id>``) and systemd
    (``docker-<id>.scope``) drivers; of containers within containers the innermost.
    """
    try:
        text = (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    ids: list[str] = _CONTAINER_ID.findall(text)
    return ids[-1] if ids else None
