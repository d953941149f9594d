"""Model worker: the process with the model, so that a crash of the model does not end the server.

It answers one batch at a time and ends with the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from workbench_toolkit.errors import ToolError
from workbench_toolkit.export.contract import Contract
from workbench_toolkit.export.inputs import Array
from workbench_toolkit.serve.engine import Engine, first_line


class ModelFailedError(Exception):
    """The model raised an exception on these inputs; the process continues."""


class WorkerDiedError(Exception):
    """The process ended before its answer."""


class Worker:
    """The server's handle of the model's process; ``device`` is the description of its device."""

    def __init__(self, contract: Contract, kind: str, path: Path) -> None:
        """Start the process and wait until it has loaded ``path``; raises ToolError."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, contract, kind, path), daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            loaded, answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise ToolError(
                f"{path} ended its process during loading (exit code {self._process.exitcode}): export again."
            ) from None
        if not loaded:
            raise ToolError(answer)
        self.device = str(answer)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def predict(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the outputs for ``arrays``; raises ModelFailedError and WorkerDiedError."""
        try:
            self._pipe.send(arrays)
            worked, answer = self._pipe.recv()
        except (EOFError, OSError):
            raise WorkerDiedError from None
        if not worked:
            raise ModelFailedError(answer)
        return list(answer)

    async def wait_until_dead(self) -> None:
        """Return when the process has ended."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()


def _end_with_server() -> None:
    # a killed server cannot end this process, and a model can be busy without end
    server = multiprocessing.parent_process()
    if server is not None:
        server.join()
    os._exit(1)


def _work(pipe: Connection, contract: Contract, kind: str, path: Path) -> None:
    # a terminal's Ctrl-C reaches this process too, which still has to finish running requests
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        engine = Engine(contract, kind, path)
    except ToolError as error:
        pipe.send((False, str(error)))
        return
    pipe.send((True, engine.device))
    with contextlib.suppress(EOFError):  # the server has ended
        while True:
            arrays = pipe.recv()
            try:
                answer = (True, engine.predict(arrays))
            except Exception as error:
                if "CUDA error" in str(error):
                    raise  # the CUDA context is lost; only a new process has a new one
                pipe.send((False, first_line(error)))
            else:
                pipe.send(answer)
