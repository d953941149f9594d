"""Lets one hub at a time work on a data folder.

The lock is the kernel's and dies with its process, however that ends; whoever does not get it has changed nothing.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from jupyterhub.app import JupyterHub

from spawner.model import SettingsError

LOCK_NAME = "hub.lock"


def hold(folder: Path) -> int | None:
    """Lock ``folder`` for as long as this process lives, and return the open descriptor that holds it.

    A subcommand such as ``jupyterhub upgrade-db`` reads the same configuration and is no hub: None, nothing is locked.
    Raises SettingsError when another hub holds the folder.
    """
    if not JupyterHub.initialized():
        return None
    try:
        # a bare descriptor: a file object would close, and so unlock, when nobody remembers it
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"The hub cannot use its data folder {folder}: {error.strerror}."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise SettingsError(
            f"Another hub already works on {folder}: stop that one first, or give this one data of its own."
        ) from error
    return lock
