"""How JupyterHub uses its own database: it writes without waiting for the disk, and asks only what it does not know.

A process that is killed loses nothing of it; a power cut may lose the last moments, and ends every server anyhow.
"""

from __future__ import annotations

from typing import Any

from jupyterhub import orm
from sqlalchemy.orm.context import QueryContext


def relax_sqlite_durability(connection: Any, _record: object) -> None:  # noqa: ANN401
    """Let a new connection commit without the disk: the hub does so 16 times per start, and holds up everybody."""
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def reduce_orm_queries() -> None:
    """Leave out what a third of the hub's questions are for; call it before the hub opens its database."""
    # whether the database is still there, before each use of a connection: a file does not hang up
    orm.register_ping_connection = lambda _engine: None
    # roles, groups and shares of a user who is found again: the hub has them, and throws the answers away
    QueryContext.default_load_options._invoke_all_eagers = False
