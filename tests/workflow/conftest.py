"""The folder of a user without root, their shell and their browser."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from spawner.catalog import load_catalog
from testing.paths import ROOT
from tests.browser.conftest import browser, playwright, screenshots

__all__ = ["browser", "playwright", "screenshots"]

CATALOG = load_catalog(ROOT / "images" / "catalog.toml")
UID = 20001


class Shell:
    """Types lines of the docs in a folder, as the user ``UID``; containers take its place in ``$PWD``."""

    def __init__(self, folder: Path, first_line: str) -> None:
        self.folder = folder
        self.prelude = f"set -eu\nid() {{ echo {UID}; }}\n{first_line}\n"

    def type(self, line: str) -> str:
        """Return all that a line prints once it has ended well."""
        done = subprocess.run(
            ["bash", "-c", self.prelude + line],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    @contextmanager
    def running(self, line: str, port: int) -> Iterator[str]:
        """Let the container of a line run until the end, its port at ``port`` of this machine; yield its name."""
        name = f"workbench-test-{uuid4().hex}"
        published, _, inner = line.partition(" -p ")[2].split()[0].partition(":")
        line = line.replace(f"-p {published}:", f"--name {name} -d -p 127.0.0.1:{port}:")
        assert f"{port}:{inner}" in line
        self.type(line)
        try:
            yield name
        finally:
            subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of ``UID``."""
    os.chown(tmp_path, UID, UID)
    return tmp_path
