"""People who start, stop, wait, extend, give up, and are deleted, all the time and in no order.

The load keeps their answers; the test judges them.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from testing.load import Load

REST_SECONDS = 1.5


class Busy:
    """A thread for each of ``names``; between ``pause`` and ``go_on`` they ask for nothing."""

    def __init__(self, load: Load, names: list[str], chance: random.Random) -> None:
        """No worker begins before ``go_on``."""
        self._load = load
        self._may_act = threading.Event()
        self._is_over = threading.Event()
        chances = [random.Random(chance.random()) for _ in names]  # noqa: S311
        self._threads = [
            threading.Thread(target=self._live, args=both)
            for both in zip(names, chances, strict=True)
        ]
        self.went_wrong: list[str] = []

    @contextmanager
    def at_work(self) -> Iterator[Busy]:
        """Let them work; all have stopped afterwards."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            self._may_act.set()
            for thread in self._threads:
                thread.join()

    def go_on(self) -> None:
        """Let them ask."""
        self._may_act.set()

    def pause(self) -> None:
        """Let them ask for nothing more; what they have asked is still under way."""
        self._may_act.clear()

    def _live(self, name: str, chance: random.Random) -> None:
        deeds: list[tuple[Callable[[], object], int]] = [
            (lambda: self._load.request_server(name, gpus=chance.choice((0, 1, 1, 2)), hours=1), 6),
            (lambda: self._load.stop(name), 4),
            (lambda: self._extend(name), 2),
            (lambda: self._begin_anew(name), 1),
        ]
        acts, weights = zip(*deeds, strict=True)
        while not self._is_over.is_set():
            self._is_over.wait(chance.uniform(0, REST_SECONDS))
            self._may_act.wait()
            if self._is_over.is_set():
                return
            try:
                chance.choices(acts, weights)[0]()
            except Exception as error:  # noqa: BLE001 - a thread's own traceback would be lost
                self.went_wrong.append(f"{name}: {error!r}")

    def _extend(self, name: str) -> None:
        self._load.request(name, "POST", "/hub/api/workbench/server/lease", {"hours": 0.1})

    def _begin_anew(self, name: str) -> None:
        """Let an admin delete the user, and make one of the same name."""
        self._load.request("admin", "DELETE", f"/hub/api/users/{name}")
        self._load.request("admin", "POST", f"/hub/api/users/{name}")
        made = self._load.request("admin", "POST", f"/hub/api/users/{name}/tokens", {})
        if made is not None and made.status_code == httpx.codes.CREATED:
            self._load.tokens[name] = made.json()["token"]
