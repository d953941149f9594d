"""The process that holds the model: a model that crashes takes this process with it, not the server.

It answers one batch at a time, ends when the server ends, and is started anew whenever it dies.
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
    """The model raised on these inputs; the process goes on."""


class WorkerDiedError(Exception):
    """The process ended before it answered."""


class Worker:
    """The model's process, seen from the server; ``device`` says in words what it runs on."""

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
            loaded, said = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise ToolError(
                f"{path} ended its process while it was loaded (exit code {self._process.exitcode})."
            ) from None
        if not loaded:
            raise ToolError(said)
        self.device = str(said)

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

    async def died(self) -> None:
        """Return when the process has ended."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()


def _end_with_server() -> None:
    # A server that was killed could not end this process, and a model may be busy for ever.
    server = multiprocessing.parent_process()
    if server is not None:
        server.join()
    os._exit(1)


def _work(pipe: Connection, contract: Contract, kind: str, path: Path) -> None:
    # A terminal's Ctrl-C reaches this process too, which must still finish what the server lets finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        engine = Engine(contract, kind, path)
    except ToolError as error:
        pipe.send((False, str(error)))
        return
    pipe.send((True, engine.device))
    with contextlib.suppress(EOFError):  # the server is gone
        while True:
            arrays = pipe.recv()
            try:
                answer = (True, engine.predict(arrays))
            except Exception as error:
                if "CUDA error" in str(error):
                    raise  # its CUDA context is lost for good: only a new process helps
                pipe.send((False, first_line(error)))
            else:
                pipe.send(answer)
