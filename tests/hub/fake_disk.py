"""Fake disk: the free space that the hub reads, for tests that must not depend on this machine's."""

from types import SimpleNamespace

import pytest


def fill(monkeypatch: pytest.MonkeyPatch, percent_free: int) -> None:
    """Let the disk have 100 GiB, of which so many percent are free."""
    blocks = SimpleNamespace(f_frsize=1024**3, f_blocks=100, f_bavail=percent_free)
    monkeypatch.setattr("spawner.hub.disk.os.statvfs", lambda _: blocks)
