"""Version 0006: adds the start mode of leases."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; a lease of the version before starts normally."""
    op.add_column(
        "leases", sa.Column("start_mode", sa.String(16), nullable=False, server_default="normal")
    )
