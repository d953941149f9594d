"""Version 0007: adds the extras of the site files to leases."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; earlier leases have no extras."""
    op.add_column("leases", sa.Column("extras", sa.Text, nullable=False, server_default=""))
