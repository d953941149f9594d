"""HTTP server of the agent: serves inventory, samples, metrics and its own health.

Every answer comes from the sampler; a request handler never calls NVML.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from spawner.agent.metrics import format_metrics
from spawner.agent.readings import Report, build_inventory, build_samples
from spawner.agent.sampler import Sampler

_NO_ANSWER = "NVML does not answer: check whether nvidia-smi answers on the GPU host."


def build_app(sampler: Sampler) -> web.Application:
    """Return the application; it starts and closes the sampler with itself."""

    async def run_sampler(_: web.Application) -> AsyncIterator[None]:
        sampler.start_sample()  # identify the GPUs now: a GPU that is lost later has no UUID
        yield
        sampler.close()

    async def health(_: web.Request) -> web.Response:
        """Report whether this process can serve: it can without a GPU, but not with a stuck NVML."""
        if sampler.is_stuck:
            return web.json_response({"error": _NO_ANSWER}, status=503)
        return web.json_response({"error": None})

    app = web.Application()
    app.cleanup_ctx.append(run_sampler)
    app.router.add_get("/inventory", _answer(sampler, _json(build_inventory)))
    app.router.add_get("/samples", _answer(sampler, _json(build_samples)))
    app.router.add_get("/metrics", _answer(sampler, _metrics))
    app.router.add_get("/healthz", health)
    return app


def _json(build: Callable[[Report], object]) -> Callable[[Report], web.Response]:
    return lambda report: web.json_response(build(report))


def _metrics(report: Report) -> web.Response:
    headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
    return web.Response(body=format_metrics(report), headers=headers)


def _answer(
    sampler: Sampler, respond: Callable[[Report], web.Response]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        try:
            return respond(await sampler.report())
        except TimeoutError:
            return web.json_response({"error": _NO_ANSWER}, status=503)

    return handle
