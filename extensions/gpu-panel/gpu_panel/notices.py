"""Notices: sentences about this server for its user: what its start ignored in the home, and what ended for memory.

JupyterLab shows them, and the hub's page *Home* too.
"""

from __future__ import annotations

from pathlib import Path

START_NOTICES = Path("/tmp/workbench-notices")  # noqa: S108 - the image's entrypoint writes it
MAX_NOTICES = 10
MAX_CHARACTERS = 500


class Notices:
    """The notices of this server, oldest first; the first ones are those of its start."""

    def __init__(self, path: Path = START_NOTICES) -> None:
        self._all: list[str] = []
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            self.add(line)

    @property
    def all(self) -> tuple[str, ...]:
        """All notices that are kept."""
        return tuple(self._all)

    def add(self, sentence: str) -> None:
        """Add a notice; the same one is kept once, and the oldest one goes first."""
        text = " ".join(sentence.split())[:MAX_CHARACTERS]
        if text:
            self._all = [*(one for one in self._all if one != text), text][-MAX_NOTICES:]
