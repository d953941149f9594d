"""One Chromium in each process of tests; screenshots are kept under ``artifacts/``.

Each story has a workbench of its own, its module's fixture ``stack``. So stories run in parallel and in any order,
and no story holds another's GPUs.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from testing.paths import ROOT
from testing.stack import Stack
from tests.browser.people import People

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    with playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as chromium:
        yield chromium


@pytest.fixture(scope="session")
def screenshots() -> Path:
    folder = ROOT / "artifacts" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def people(browser: Browser, stack: Stack, screenshots: Path) -> Iterator[People]:
    everyone = People(browser, stack, screenshots)
    yield everyone
    for name, context in everyone.contexts.items():
        everyone.shoot(name, f"last-{stack.instance}-{name}")  # the last page of a failed chapter
        context.close()
