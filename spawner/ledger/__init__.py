"""The ledger: who holds and waits for what, who may have how much and who did what, in one database.

Whatever is written is compare-and-set in one serial transaction; a database that does not answer is ``Unknown``.
"""

from spawner.ledger.ledger import Ledger, LedgerSnapshot

__all__ = ["Ledger", "LedgerSnapshot"]
