"""Metrics: Prometheus metrics of requests, batches, the queue, refusals and the model's process.

The values of every label come from a closed list, independent of the requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workbench_toolkit.serve.refusal import Reason

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "wb_serve_requests", "Answers of /predict.", ["code"], registry=self._registry
        )
        self.seconds = Histogram(
            "wb_serve_request_seconds",
            "From a request's head to its answer.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_rows = Histogram(
            "wb_serve_batch_rows",
            "Rows per batch.",
            buckets=_ROWS,
            registry=self._registry,
        )
        self.restarts = Counter(
            "wb_serve_worker_restarts",
            "Restarts of the model's process.",
            registry=self._registry,
        )
        self._errors = Counter(
            "wb_serve_errors", "Requests without a prediction.", ["reason"], registry=self._registry
        )
        for reason in Reason:
            self._errors.labels(reason.word)
        self._queue = Gauge("wb_serve_queue_rows", "Rows in the queue.", registry=self._registry)
        self._up = Gauge(
            "wb_serve_worker_up", "1 while the model can answer.", registry=self._registry
        )

    def set_sources(self, waiting_rows: Callable[[], int], is_ready: Callable[[], bool]) -> None:
        """Set the functions that each scrape reads for the queue and the model's process."""
        self._queue.set_function(waiting_rows)
        self._up.set_function(is_ready)

    def count_refusal(self, reason: Reason) -> None:
        """Count a request without a prediction."""
        self._errors.labels(reason.word).inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class MeasureMiddleware:
    """ASGI middleware that counts and times the requests to ``path``."""

    def __init__(self, app: ASGIApp, metrics: Metrics, path: str) -> None:
        self._app = app
        self._metrics = metrics
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application and record the status of its answer; an exception counts as 500."""
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        started, is_answered = time.perf_counter(), False

        def count(status: int) -> None:
            nonlocal is_answered
            is_answered = True
            self._metrics.requests.labels(str(status)).inc()
            self._metrics.seconds.observe(time.perf_counter() - started)

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, measured)
        except Exception:
            if not is_answered:  # Starlette answers outside all middleware
                count(500)
            raise
