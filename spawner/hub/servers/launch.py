"""Launch: starts the container of a granted lease, waits until it answers, and reports each step."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from spawner.hub.servers.progress import Progress
from spawner.hub.servers.readiness import format_exit, wait_until_open
from spawner.hub.unavailable import format_retry
from spawner.hub.workbench import Workbench
from spawner.model import Gpu, LaunchError, Lease, Unknown
from spawner.policy.formatting import format_gpu_count, format_gpu_name


async def launch(
    workbench: Workbench,
    lease: Lease,
    environment: Mapping[str, str],
    port: int,
    progress: Progress,
) -> tuple[str, tuple[Gpu, ...]]:
    """Launch the lease's server; return its host name and its GPUs; raises LaunchError or Unknown."""
    await _check_health(workbench, lease)
    gpus = await _get_gpus(workbench, lease)
    progress.report(10, _format_grant(lease, gpus))
    host = await workbench.controller.launch(lease, environment, progress.report)
    progress.report(70, "Waiting for JupyterLab to answer")
    await wait_until_open(host, port, functools.partial(_check_alive, workbench, lease))
    progress.report(95, "JupyterLab answers: opening it")
    return host, gpus


async def format_failure(workbench: Workbench, lease: Lease, error: Exception) -> str:
    """Return one sentence for a start that ended in ``error``; an admin's end or a failed GPU takes precedence."""
    try:
        why = await workbench.controller.admin_actions.end_reason(lease.id)
        trouble = await workbench.controller.health.trouble_at_start(lease)
    except Unknown:
        why = trouble = None
    if why is not None:
        return f"An admin ended this server while it started: {why}"
    if trouble is None and isinstance(error, Unknown):
        return format_retry(error)
    return trouble or str(error)


async def _check_health(workbench: Workbench, lease: Lease) -> None:
    trouble = await workbench.controller.health.trouble_at_start(lease)
    if trouble is not None:
        raise LaunchError(trouble)


async def _check_alive(workbench: Workbench, lease: Lease) -> None:
    await _check_health(workbench, lease)
    status = await workbench.controller.inspect(lease.id)
    if status is None or not status.is_running:
        said = await workbench.controller.log_tail(lease) if status is not None else ""
        raise LaunchError(format_exit(status, said))


async def _get_gpus(workbench: Workbench, lease: Lease) -> tuple[Gpu, ...]:
    if not lease.gpu_uuids:
        return ()
    try:
        gpus = await workbench.gpus.last_inventory()
    except Unknown:
        return ()  # pages show the server without GPU names
    return tuple(gpu for gpu in gpus if gpu.uuid in lease.gpu_uuids)


def _format_grant(lease: Lease, gpus: tuple[Gpu, ...]) -> str:
    if not lease.gpu_uuids:
        return "Starting without a GPU"
    named = ", ".join(f"{format_gpu_name(gpu)}: {gpu.name}" for gpu in gpus)
    granted = format_gpu_count(lease.gpu_count, lease.mig_profile)
    return f"Got {granted} ({named})" if named else f"Got {granted}"
