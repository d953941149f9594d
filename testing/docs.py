"""The documentation as tests read it: pages, code blocks, inline code, tables, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from testing.paths import ROOT

_FENCE = re.compile(r"^```.*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """One Markdown file of the repository."""

    path: Path

    @property
    def name(self) -> str:
        """Return its path from the repository's root."""
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        """Its source."""
        return self.path.read_text()

    @property
    def commands(self) -> Iterator[str]:
        """Yield the lines of its code blocks, continued lines joined and comments removed."""
        for block in _FENCE.findall(self.text):
            for line in block.replace("\\\n", " ").splitlines():
                if command := re.sub(r"(^|\s)#.*", "", line).strip():
                    yield command

    @property
    def inline_code(self) -> list[str]:
        """Return every piece of code within its sentences and tables."""
        return re.findall(r"`([^`\n]+)`", _FENCE.sub("", self.text))

    @property
    def links(self) -> list[str]:
        """Return the targets of its links and pictures, without those of other hosts."""
        targets = re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", self.text))
        return [target for target in targets if "://" not in target]

    @property
    def anchors(self) -> set[str]:
        """Return the anchors of its headings, as the forge makes them."""
        headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", self.text), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    def rows(self, heading: str) -> list[list[str]]:
        """Return the cells of the tables below ``heading``, up to the next heading of any level."""
        section = re.search(
            rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", self.text, re.MULTILINE | re.DOTALL
        )
        assert section, f"{self.name} has no heading {heading!r}"
        lines = [line for line in section[1].splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return [row for row in cells if not set(row[0]) <= {"-"}][1:]


def page(name: str) -> Page:
    """Return the page at ``name``, a path from the repository's root."""
    return Page(ROOT / name)


PAGES = [
    Page(path)
    for path in (
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "extensions/gpu-panel/README.md",
    )
]


def code_words(code: str) -> set[str]:
    """Return the pieces of inline code in a table cell."""
    return set(re.findall(r"`([^`]+)`", code))
