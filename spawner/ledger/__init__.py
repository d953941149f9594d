"""The ledger: stores leases, the queue, quotas, usage and the audit trail in one SQL database.

Every write is compare-and-set in one serial transaction; a database that does not answer raises ``Unknown``.
"""

from spawner.ledger.ledger import Ledger, LedgerSnapshot

__all__ = ["Ledger", "LedgerSnapshot"]
