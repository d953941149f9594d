"""User homes: lists the homes of all users; by order of an admin it mends one, or removes one of a deleted user.

A home stays when its user is deleted. Its removal ends the account for good, so no later user gets its uid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from spawner.containers import Containers
from spawner.ledger import Ledger
from spawner.model import Account, Reason, Refused
from spawner.policy import names
from spawner.serial_executor import SerialExecutor


@dataclass(frozen=True)
class UserHome:
    """One home volume.

    ``user`` is the present name of its user, None if the user is deleted. ``size_bytes`` None is unknown.
    ``last_used_at`` is a time of the lease clock, None if no lease of it has ended. ``is_in_use``: it has a live lease.
    """

    volume: str
    account: Account
    user: str | None
    size_bytes: int | None
    last_used_at: float | None
    is_in_use: bool


class UserHomes:
    """The homes of one instance; ``users`` are the present names of the hub's users by identity."""

    def __init__(
        self,
        ledger: Ledger,
        in_ledger: SerialExecutor,
        containers: Containers,
        clock: Callable[[], float],
        instance: str,
    ) -> None:
        """Take the dependencies; no request is sent yet."""
        self._ledger = ledger
        self._in_ledger = in_ledger
        self._containers = containers
        self._clock = clock
        self._instance = instance

    async def list(self, users: Mapping[str, str]) -> tuple[tuple[UserHome, ...], datetime | None]:
        """Return all homes, those of deleted users first, and the time of their measurement; raises Unknown."""
        listed = await self._containers.list_homes()
        accounts = await self._in_ledger(self._ledger.accounts)
        last_use = await self._in_ledger(self._ledger.last_use_of_homes)
        homes = []
        for identity, account in accounts.items():
            volume = names.home_volume(self._instance, account.user, account.uid)
            if volume in listed.sizes:
                last = last_use.get(account.uid)
                is_in_use = account.uid in last_use and last is None
                size = listed.sizes[volume]
                homes.append(UserHome(volume, account, users.get(identity), size, last, is_in_use))
        homes.sort(key=lambda home: (home.user is not None, home.user or "", home.volume))
        return tuple(homes), listed.measured_at

    async def sizes(self) -> dict[str, int]:
        """Return the known sizes in bytes by the identity of the user; raises Unknown."""
        listed = await self._containers.list_homes()
        accounts = await self._in_ledger(self._ledger.accounts)
        found = {
            identity: listed.sizes.get(names.home_volume(self._instance, one.user, one.uid))
            for identity, one in accounts.items()
        }
        return {identity: size for identity, size in found.items() if size is not None}

    async def mend(
        self, home: str, users: Mapping[str, str], *, by: str, reason: str
    ) -> Refused | None:
        """Let the next start give all files of ``home``, a volume or the name of its user, to its user.

        Raises Unknown.
        """
        homes, _ = await self.list(users)
        found = next((one for one in homes if home in (one.volume, one.user)), None)
        if found is None:
            return Refused(Reason.NO_HOME, f"There is no home {home[:80]!r}: list them first.")
        is_unprepared = await self._in_ledger(
            self._ledger.unprepare_home,
            found.account.uid,
            found.volume,
            by=by,
            reason=reason,
            now=self._clock(),
        )
        if is_unprepared:
            return None
        return Refused(
            Reason.HOME_IN_USE, "A server uses this home: stop every server of its user first."
        )

    async def remove(
        self, volume: str, users: Mapping[str, str], *, by: str, reason: str
    ) -> Refused | None:
        """Remove the home of a deleted user; raises Unknown, after which the same order may be given again."""
        homes, _ = await self.list(users)
        home = next((one for one in homes if one.volume == volume), None)
        if home is None:
            return Refused(Reason.NO_HOME, f"There is no home {volume[:80]!r}: list them first.")
        if home.user is not None:
            return Refused(
                Reason.HOME_IN_USE, f"This is the home of {home.user}, who has an account."
            )
        is_over = await self._in_ledger(
            self._ledger.end_account,
            home.account.uid,
            volume,
            by=by,
            reason=reason,
            now=self._clock(),
        )
        if not is_over:
            return Refused(Reason.HOME_IN_USE, "A server uses this home: end its lease first.")
        why = await self._containers.remove_home(volume)
        return None if why is None else Refused(Reason.HOME_IN_USE, why)
