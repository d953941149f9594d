"""Tables: defines the schema of the ledger and converts its rows to leases.

The database itself prevents double booking: a GPU is the primary key of its claim.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from spawner.model import Cause, Lease, LeaseState, StartMode, WhenIdle

VERSION = "0007"
"""The latest script of ``spawner.ledger.migrations``, which results in these tables."""
metadata = sa.MetaData()

accounts = sa.Table(
    "accounts",
    metadata,
    # autoincrement: a number, and so a uid, is never reused, not even after a deletion
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("identity", sa.String, nullable=False, unique=True),
    sa.Column("user", sa.String, nullable=False),
    sa.Column("is_home_prepared", sa.Boolean, nullable=False, default=False),
    sqlite_autoincrement=True,
)

LIVE = sa.text("state != 'closed'")
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("user", sa.String, nullable=False),
    sa.Column("server", sa.String, nullable=False),
    sa.Column("uid", sa.Integer, nullable=False),
    sa.Column("release", sa.String, nullable=False),
    sa.Column("gpu_count", sa.Integer, nullable=False),
    sa.Column("mig_profile", sa.String(32)),
    sa.Column("hours", sa.Float, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("gpu_uuids", sa.JSON, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("requested_at", sa.Float, nullable=False),
    sa.Column("granted_at", sa.Float),
    sa.Column("ends_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("cause", sa.String(16)),
    sa.Column("is_claimed", sa.Boolean, nullable=False),
    sa.Column("groups", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("when_idle", sa.String(16), nullable=False, server_default="stop"),
    sa.Column("start_mode", sa.String(16), nullable=False, server_default="normal"),
    sa.Column("extras", sa.Text, nullable=False, server_default=""),
    # accounting reads the leases of some days among years of closed leases
    sa.Index("leases_by_grant", "granted_at"),
    sa.Index(
        "one_live_lease_per_server",
        "user",
        "server",
        unique=True,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    ),
    sa.Index("leases_by_uid", "uid"),
    # every view of a server reads its latest lease
    sa.Index("leases_by_server", "user", "server", "requested_at"),
)

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("gpu_uuid", sa.String, primary_key=True),
    sa.Column("lease_id", sa.ForeignKey("leases.id"), nullable=False),
)

quarantines = sa.Table(
    "quarantines",
    metadata,
    # the latest one of each GPU; active until ``returned_at`` is set
    sa.Column("gpu_uuid", sa.String, primary_key=True),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("xid_at", sa.Float),
    sa.Column("returned_at", sa.Float),
    sa.Column("returned_by", sa.String),
)

drains = sa.Table(
    "drains",
    metadata,
    # the active ones: these GPUs get no new lease
    sa.Column("gpu_uuid", sa.String, primary_key=True),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
)

use = sa.Table(
    "use",
    metadata,
    # decayed GPU-hours of the account's closed leases at ``at``; readers add the live leases
    sa.Column("uid", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("gpu_hours", sa.Float, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

usage = sa.Table(
    "usage",
    metadata,
    # how busy a GPU was in one lease on one day (UTC, days since 1970): it was measured for ``measured_seconds`` and
    # computed for ``used_seconds``. The lease itself has the held time.
    sa.Column("lease_id", sa.ForeignKey("leases.id"), primary_key=True),
    sa.Column("gpu_uuid", sa.String, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("measured_seconds", sa.Float, nullable=False),
    sa.Column("used_seconds", sa.Float, nullable=False),
    sa.Column("measured_until", sa.Float, nullable=False),
    sa.Index("usage_by_day", "day"),
)

heartbeat = sa.Table(
    "heartbeat",
    metadata,
    sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
    sa.Column("boot_id", sa.String, nullable=False),
    sa.Column("offset_seconds", sa.Float, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

trail = sa.Table(
    "trail",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("subject", sa.String, nullable=False),
    # JSON objects, as text
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Index("trail_by_subject", "subject"),
    sa.Index("trail_by_actor", "actor"),
    sqlite_autoincrement=True,
)
quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("kind", sa.String(16), primary_key=True),
    # a group's name, a user's identity, or empty for the default
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("max_gpus", sa.Integer),
    sa.Column("gpu_hours", sa.Float),
    sa.Column("window_days", sa.Integer),
    sa.Column("max_lease_hours", sa.Float),
    sa.Column("priority", sa.Integer),
    sa.Column("total_gpus", sa.Integer),
    sa.Column("releases", sa.JSON(none_as_null=True)),
)
TRAIL_GUARDS = {
    "sqlite": (
        "CREATE TRIGGER trail_keeps_rows BEFORE DELETE ON trail "
        "BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END",
        "CREATE TRIGGER trail_keeps_values BEFORE UPDATE ON trail "
        "BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION keep_trail() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''the audit trail only grows''; END'",
        "CREATE TRIGGER trail_keeps_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON trail "
        "FOR EACH STATEMENT EXECUTE FUNCTION keep_trail()",
    ),
}


@sa.event.listens_for(trail, "after_create")
def _guard_trail(_table: object, connection: sa.Connection, **_: object) -> None:
    for statement in TRAIL_GUARDS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


_LEASE_COLUMNS = tuple(leases.c.keys())


def as_row(lease: Lease) -> dict[str, Any]:
    """Return the column values of ``lease``."""
    return {
        **{name: getattr(lease, name) for name in _LEASE_COLUMNS},
        "gpu_uuids": list(lease.gpu_uuids),
        "groups": list(lease.groups),
        "state": lease.state.value,
        "when_idle": lease.when_idle.value,
        "start_mode": lease.start_mode.value,
        "cause": None if lease.cause is None else lease.cause.value,
    }


def as_lease(row: sa.Row[Any]) -> Lease:
    """Return the lease of ``row``."""
    values: dict[str, Any] = dict(zip(_LEASE_COLUMNS, row, strict=True))
    values["gpu_uuids"] = tuple(values["gpu_uuids"])
    values["groups"] = tuple(values["groups"])
    values["state"] = LeaseState(values["state"])
    values["when_idle"] = WhenIdle(values["when_idle"])
    values["start_mode"] = StartMode(values["start_mode"])
    if values["cause"] is not None:
        values["cause"] = Cause(values["cause"])
    return Lease(**values)
