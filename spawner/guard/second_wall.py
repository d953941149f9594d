"""Second wall: keeps one nftables table of the workbench's own as it is wanted.

The table is behind iptables' chains and independent of them: only ``nft flush ruleset`` removes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from spawner.guard.firewall import Run, run_command
from spawner.model import Unknown


@dataclass(frozen=True)
class SecondWall:
    """The table ``name`` of the family inet."""

    name: str
    run: Run = run_command

    def ensure(self, wanted: str) -> bool:
        """Make the table as it is wanted; return whether anything had to be changed. Raises Unknown."""
        if self._list() == wanted:
            return False
        # the first line makes the table where it is missing, so that the second one never fails
        head = f"table inet {self.name}\ndelete table inet {self.name}\n"
        self.run(("nft", "-f", "-"), head + wanted)
        if self._list() != wanted:
            raise Unknown("nft does not keep the second wall of the users' network.")
        return True

    def remove(self) -> None:
        """Remove the table where it is there; raises Unknown."""
        self.run(("nft", "-f", "-"), f"table inet {self.name}\ndelete table inet {self.name}\n")

    def _list(self) -> str:
        """Return the table as text, "" where there is none."""
        tables = self.run(("nft", "list", "tables", "inet"), "").splitlines()
        if f"table inet {self.name}" not in tables:
            return ""
        return self.run(("nft", "list", "table", "inet", self.name), "")
