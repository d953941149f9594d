"""Process attribution: maps a process of this host to its container.

The source is the kernel's cgroup file, which a process in a container cannot forge.
"""

from __future__ import annotations

import re
from pathlib import Path

_CONTAINER_ID = re.compile(r"(?:^|[/-])([0-9a-f]{64})(?:\.scope)?(?=/|$)", re.MULTILINE)


def get_container_id(pid: int, proc: Path = Path("/proc")) -> str | None:
    """Return the 64-digit container id of a PID; ``None`` outside containers or after its end.

    It reads paths of cgroup v1 and v2, of the cgroupfs (``/docker/<id>``) and systemd (``docker-<id>.scope``) drivers.
    For nested containers it returns the innermost id.
    """
    try:
        text = (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    ids: list[str] = _CONTAINER_ID.findall(text)
    return ids[-1] if ids else None
