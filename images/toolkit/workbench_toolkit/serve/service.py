"""Model service: keeps the model's process running, works off its queue and enforces the timeout.

A dead process is restarted; if that fails, the server ends with exit code 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from workbench_toolkit.errors import ToolError
from workbench_toolkit.export.inputs import Array
from workbench_toolkit.serve.batcher import Batcher, QueueFullError
from workbench_toolkit.serve.metrics import Metrics
from workbench_toolkit.serve.refusal import Reason, Refusal
from workbench_toolkit.serve.worker import ModelFailedError, Worker, WorkerDiedError

_log = logging.getLogger("uvicorn.error")


class Service:
    """The worker from ``start`` behind a queue; ``timeout_s`` limits each request and each batch."""

    def __init__(
        self,
        start: Callable[[], Worker],
        metrics: Metrics,
        *,
        batch_rows: int,
        waiting_rows: int,
        timeout_s: float,
    ) -> None:
        """Load the model; raises ToolError."""
        self._start = start
        self._worker = start()
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._ready = asyncio.Event()
        self._batcher = Batcher(
            self._predict_batch, batch_rows, waiting_rows, metrics.batch_rows.observe
        )
        metrics.set_sources(lambda: self._batcher.waiting_rows, lambda: self.is_ready)

    @property
    def is_ready(self) -> bool:
        """Whether the model can answer now."""
        return self._ready.is_set() and self._worker.is_alive

    @property
    def device(self) -> str:
        """The description of the model's device."""
        return self._worker.device

    @contextlib.asynccontextmanager
    async def running(self, on_failure: Callable[[], None]) -> AsyncIterator[None]:
        """Serve during this context; an unsuccessful restart of the model's process calls ``on_failure``."""
        self._ready.set()
        async with asyncio.TaskGroup() as tasks:
            started = [
                tasks.create_task(self._batcher.run()),
                tasks.create_task(self._restart_when_dead(on_failure)),
            ]
            try:
                yield
            finally:
                for task in started:
                    task.cancel()

    async def predict(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the outputs for ``arrays``; raises Refusal."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._batcher.submit(arrays)
        except QueueFullError:
            raise Refusal(Reason.QUEUE, "The queue is full: try again in a second.") from None
        except TimeoutError:
            raise Refusal(
                Reason.TIMEOUT, f"No prediction within {self._timeout_s:g} s: try again."
            ) from None
        except ModelFailedError as error:
            raise Refusal(Reason.MODEL, f"The model failed on these inputs: {error}") from None
        except WorkerDiedError:
            raise Refusal(
                Reason.WORKER,
                "The model's process ended during this prediction and restarts: try again.",
            ) from None

    def end(self) -> None:
        """End the model's process."""
        self._worker.kill()

    async def _predict_batch(self, arrays: Sequence[Array]) -> list[Array]:
        if not self._worker.is_alive:
            self._ready.clear()
        await self._ready.wait()
        worker = self._worker
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.to_thread(worker.predict, arrays)
        except (TimeoutError, WorkerDiedError) as error:
            if isinstance(error, TimeoutError):
                _log.error("batch state=timeout limit_seconds=%g", self._timeout_s)
                worker.kill()
            if worker is self._worker:  # not replaced yet, so the next batch has to wait
                self._ready.clear()
            raise WorkerDiedError from None

    async def _restart_when_dead(self, on_failure: Callable[[], None]) -> None:
        while True:
            await self._worker.wait_until_dead()
            self._ready.clear()
            self._metrics.restarts.inc()
            _log.error("worker state=dead action=restart")
            try:
                self._worker = await asyncio.to_thread(self._start)
            except ToolError as error:
                _log.critical("worker state=failed reason=%s", error)
                on_failure()
                return
            self._ready.set()
