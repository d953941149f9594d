"""Version 0004: adds the table of drained GPUs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "drains",
        sa.Column("gpu_uuid", sa.String, primary_key=True),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
    )
