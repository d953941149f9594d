"""Alembic's own entry: runs the scripts on the connection that ``spawner.ledger.migrations`` hands over.

Within the transaction that is open there, so that all of them happen or none.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
)
context.run_migrations()
