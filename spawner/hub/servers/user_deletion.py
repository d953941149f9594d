"""User deletion: ends everything that a user runs or waits for before the user is deleted.

JupyterHub stops the servers it knows; then the leases that remain in the user's name are closed.
"""

from __future__ import annotations

import asyncio

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.spawner import Spawner
from jupyterhub.user import User

from spawner.hub.workbench import Workbench
from spawner.model import Cause


async def end_all_servers(handler: BaseHandler, workbench: Workbench, user: User) -> bool:
    """Stop every server of ``user``; False when one is not proven gone within JupyterHub's time limit."""
    await asyncio.gather(*(_end(handler, user, spawner) for spawner in [*user.spawners.values()]))
    if user.active:
        return False
    leases = await asyncio.to_thread(workbench.ledger.live_leases)
    own = [lease.id for lease in leases if lease.user == user.name]
    closed = await asyncio.gather(*(workbench.controller.release(id_, Cause.USER) for id_ in own))
    return all(closed)


async def _end(handler: BaseHandler, user: User, spawner: Spawner) -> None:
    if spawner.pending == "spawn" and spawner._spawn_future is not None:
        spawner._spawn_future.cancel()
        await asyncio.wait([spawner._spawn_future])
    stopping = getattr(spawner, "_stop_future", None)
    if stopping is not None:
        await asyncio.wait([stopping], timeout=handler.slow_stop_timeout)
    elif spawner.active and not spawner.pending:
        await handler.stop_single_user(user, spawner.name)
