"""Folders: decides whether a folder of the host may be mounted, by what the broker itself sees of it.

`scripts/up` mounts the folders of `bounds.toml` below `/host` in the broker. Docker follows links when it mounts. So no
part of the path may be a link, and root alone may be able to put one there after the check.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

HOST = Path("/host")
_WRITABLE_BY_OTHERS = 0o022


def explain_unsafe_folder(source: str, bounds: Sequence[str], host: Path = HOST) -> str | None:
    """Return why ``source`` may not be mounted, None if it may; ``bounds`` are the allowed folders."""
    allowed = [bound for bound in bounds if f"{source}/".startswith(f"{bound}/")]
    if not allowed:
        return f"{source} is in no folder of bounds.toml"
    bound = max(allowed, key=len)
    steps = [bound]
    for name in source[len(bound) :].strip("/").split("/"):
        if name:
            steps.append(f"{steps[-1]}/{name}")
    for step in steps:
        try:
            found = (host / step.lstrip("/")).lstat()
        except OSError as error:
            return f"{step} cannot be read on this host: {error.strerror}"
        if stat.S_ISLNK(found.st_mode):
            return f"{step} is a link"
        if step != source and (found.st_uid != 0 or found.st_mode & _WRITABLE_BY_OTHERS):
            return f"other users than root can put a link into {step}; list {source} itself in bounds.toml"
        if not stat.S_ISDIR(found.st_mode) and not (step == source and stat.S_ISREG(found.st_mode)):
            return f"{step} is no folder"
    return None
