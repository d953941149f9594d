"""The process of ``map_fixture``, and browsers that log in to its hub."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from testing.paths import ROOT
from tests.hub.accounts import ADMIN_PASSWORD
from tests.hub.hub_env import PASSWORD

SECONDS = 1000
LIVE = "[data-live=yes]"


class MapHub:
    """The hub's process, and browsers that look at it."""

    def __init__(self, browser: Browser, process: subprocess.Popen[str]) -> None:
        self._browser = browser
        self._process = process
        self.url = self._read()

    def execute(self, words: str) -> None:
        """Let the hub do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()
        assert self._read() == "done"

    def _read(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(("http", "done")):
                return line.strip()
        raise AssertionError("the hub ended")

    @contextmanager
    def page(self, name: str, **options: object) -> Iterator[Page]:
        """Open the map as ``name``; whatever goes wrong in its script is a failure."""
        context = self._browser.new_context(base_url=self.url, **options)  # type: ignore[arg-type]
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/hub/login?next=/hub/gpus")
        page.fill("#username_input", name)
        page.fill("#password_input", ADMIN_PASSWORD if name == "admin" else PASSWORD)
        page.click("#login_submit")
        page.wait_for_url("**/hub/gpus")
        expect(page.locator(LIVE)).to_be_visible(timeout=20 * SECONDS)
        yield page
        assert errors == []
        context.close()


@contextmanager
def running_map_hub(browser: Browser, folder: Path, gpus: int) -> Iterator[MapHub]:
    command = [sys.executable, "-m", "tests.browser.map_fixture", str(folder), str(gpus)]
    with (folder / "map_hub.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        yield MapHub(browser, process)
    finally:
        process.communicate(timeout=60)
