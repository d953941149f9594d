"""Version 0002: creates the quotas and the audit trail, whose rows the database protects against changes.

A released script never changes; a later change gets a script of its own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

GUARDS = {
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


def upgrade() -> None:
    """Create both tables and the triggers that protect the trail."""
    op.create_table(
        "trail",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sa.Column("reason", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "quotas",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("max_gpus", sa.Integer),
        sa.Column("gpu_hours", sa.Float),
        sa.Column("window_days", sa.Integer),
        sa.Column("max_lease_hours", sa.Float),
        sa.Column("priority", sa.Integer),
        sa.Column("total_gpus", sa.Integer),
        sa.Column("releases", sa.JSON),
    )
    op.create_index("leases_by_uid", "leases", ["uid"])
    op.create_index("trail_by_subject", "trail", ["subject"])
    op.create_index("trail_by_actor", "trail", ["actor"])
    for statement in GUARDS[op.get_bind().dialect.name]:
        op.execute(statement)
