"""Version 0001: creates accounts, leases, claims, quarantines, use and heartbeat.

A released script never changes; a later change gets a script of its own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table of the first release."""
    op.create_table(
        "accounts",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("identity", sa.String, nullable=False, unique=True),
        sa.Column("user", sa.String, nullable=False),
        sa.Column("is_home_prepared", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "leases",
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
    )
    is_live = sa.text("state != 'closed'")
    op.create_index(
        "one_live_lease_per_server",
        "leases",
        ["user", "server"],
        unique=True,
        sqlite_where=is_live,
        postgresql_where=is_live,
    )
    op.create_table(
        "claims",
        sa.Column("gpu_uuid", sa.String, primary_key=True),
        sa.Column("lease_id", sa.String(16), sa.ForeignKey("leases.id"), nullable=False),
    )
    _create_small_tables()


def _create_small_tables() -> None:
    op.create_table(
        "quarantines",
        sa.Column("gpu_uuid", sa.String, primary_key=True),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("xid_at", sa.Float),
        sa.Column("returned_at", sa.Float),
        sa.Column("returned_by", sa.String),
    )
    op.create_table(
        "use",
        sa.Column("user", sa.String, primary_key=True),
        sa.Column("gpu_hours", sa.Float, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "heartbeat",
        sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
        sa.Column("boot_id", sa.String, nullable=False),
        sa.Column("offset_seconds", sa.Float, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
