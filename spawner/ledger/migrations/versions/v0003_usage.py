"""Version 0003: adds the usage accounting and keys recent use by account instead of user name."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns and tables of the accounting; recent use restarts at zero."""
    op.add_column(
        "leases", sa.Column("groups", sa.JSON, nullable=False, server_default=sa.text("'[]'"))
    )
    op.add_column(
        "leases", sa.Column("when_idle", sa.String(16), nullable=False, server_default="stop")
    )
    op.create_index("leases_by_grant", "leases", ["granted_at"])
    op.drop_table("use")
    op.create_table(
        "use",
        sa.Column("uid", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("gpu_hours", sa.Float, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "usage",
        sa.Column("lease_id", sa.String(16), sa.ForeignKey("leases.id"), primary_key=True),
        sa.Column("gpu_uuid", sa.String, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("measured_seconds", sa.Float, nullable=False),
        sa.Column("used_seconds", sa.Float, nullable=False),
        sa.Column("measured_until", sa.Float, nullable=False),
    )
    op.create_index("usage_by_day", "usage", ["day"])
