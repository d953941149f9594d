"""Hub database: tunes JupyterHub's use of its own SQLite database: fewer queries, and commits without fsync.

Relaxed is durability against a power cut, and it is safe: a killed process loses no commit, because the kernel has
the pages. A power cut may lose the last commits, but it also ends every server that these commits describe.
"""

from __future__ import annotations

from typing import Any

from jupyterhub import orm
from sqlalchemy.orm.context import QueryContext


def relax_sqlite_durability(connection: Any, _record: object) -> None:  # noqa: ANN401
    """Let a new connection commit without fsync: the hub commits 16 times per start, on the event loop."""
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def reduce_orm_queries() -> None:
    """Omit a third of JupyterHub's queries, whose results are unused; call it before the hub opens the database."""
    # the ping before each use of a connection: a SQLite file does not disconnect
    orm.register_ping_connection = lambda _engine: None
    # eager loads of roles, groups and shares of an object that the session already holds: they are discarded
    QueryContext.default_load_options._invoke_all_eagers = False
