"""Makes the index by which the last lease of a server is found among years of them."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make it."""
    op.create_index("leases_by_server", "leases", ["user", "server", "requested_at"])
