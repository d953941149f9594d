"""Version 0005: adds the index that finds a server's latest lease among years of leases."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the index."""
    op.create_index("leases_by_server", "leases", ["user", "server", "requested_at"])
