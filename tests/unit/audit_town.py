"""A whole small world before the auditor, in which nothing is wrong until a test plants it."""

import asyncio
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from jupyterhub import orm

from spawner.audit.probes import Places, look
from spawner.audit.rules import World
from spawner.model import Cause, Lease, LeaseState
from spawner.policy import names
from tests.unit.broker_house import FIRST_UID, INSTANCE, House


class AuditTown:
    """Alice has a GPU and runs, bob's server is starting, eve's was stopped; behind the real broker and databases."""

    def __init__(self, house: House, folder: Path, ledger_url: str) -> None:
        self.house = house
        self.places = Places(
            INSTANCE,
            FIRST_UID,
            house.socket_path,
            ledger_url,
            f"sqlite:///{folder}/jupyterhub.sqlite",
        )
        self.folder = folder
        self._ledger = sa.create_engine(ledger_url)
        self._hub = sa.create_engine(self.places.hub_database_url)
        orm.Base.metadata.create_all(self._hub)
        self.alice = house.ledger.move(house.lease, LeaseState.RUNNING, now=1.0)
        self.bob, self.eve = house.grant("bob"), house.grant("eve")
        eve = house.ledger.move(self.eve, LeaseState.CLOSING, now=1.0, cause=Cause.USER)
        house.ledger.move(eve, LeaseState.CLOSED, now=1.0)
        self.write("UPDATE leases SET granted_at = :now, ended_at = :now", now=time.time())
        uid = house.ledger.account_of("alice", "alice").uid
        house.ledger.mark_home_prepared(uid)
        self.home = names.home_volume(INSTANCE, "alice", uid)
        house.engine.volumes.add(self.home)
        self.run(self.alice)
        self.serve("alice", house.name(self.alice))
        self.serve("bob", "")

    def close(self) -> None:
        """Give the databases back."""
        self._hub.dispose()
        self._ledger.dispose()

    async def look(self) -> World:
        """Look as the auditor does, beside the broker that answers it."""
        return await asyncio.to_thread(look, self.places)

    def run(self, lease: Lease, name: str | None = None, **host_config: Any) -> None:
        """Let a container of ``lease`` run, with whatever name and devices."""
        body = self.house.body(lease)
        body["HostConfig"] |= host_config
        self.house.engine.add(name or self.house.name(lease), body, is_running=True)

    def serve(self, user: str, host: str, server: str = "") -> None:
        """Let the hub's database say that a server is at ``host``; "" while it is starting."""
        with sa.orm.Session(self._hub) as session:
            found = session.scalar(sa.select(orm.User).where(orm.User.name == user))
            owner = found or orm.User(name=user)
            session.add(orm.Spawner(name=server, user=owner, server=orm.Server(ip=host)))
            session.commit()

    def forget_user(self, user: str) -> None:
        """Let the hub's database know nobody of this name."""
        with sa.orm.Session(self._hub) as session:
            session.delete(session.scalars(sa.select(orm.User).where(orm.User.name == user)).one())
            session.commit()

    def write(self, statement: str, **values: object) -> None:
        """Change the ledger behind everybody's back."""
        with self._ledger.begin() as ledger:
            ledger.execute(sa.text(statement), values)
