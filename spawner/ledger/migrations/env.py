"""Alembic environment: runs the migration scripts on the connection that ``spawner.ledger.migrations`` passes in.

The scripts share its open transaction: all of them apply, or none.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
)
context.run_migrations()
