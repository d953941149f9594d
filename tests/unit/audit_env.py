"""A whole small world before the auditor, in which nothing is wrong until a test plants it."""

import asyncio
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from jupyterhub import orm

from spawner.audit.probes import ProbeTargets, probe
from spawner.audit.rules import ObservedState
from spawner.model import Cause, Lease, LeaseState
from spawner.policy import names
from tests.unit.broker_env import FIRST_UID, INSTANCE, BrokerEnvironment


class AuditEnvironment:
    """Alice has a GPU and runs, bob's server is starting, eve's was stopped; behind the real broker and databases."""

    def __init__(self, broker_env: BrokerEnvironment, folder: Path, ledger_url: str) -> None:
        self.broker_env = broker_env
        self.places = ProbeTargets(
            INSTANCE,
            FIRST_UID,
            broker_env.socket_path,
            ledger_url,
            f"sqlite:///{folder}/jupyterhub.sqlite",
        )
        self.folder = folder
        self._ledger = sa.create_engine(ledger_url)
        self._hub = sa.create_engine(self.places.hub_database_url)
        orm.Base.metadata.create_all(self._hub)
        self.alice = broker_env.ledger.move(broker_env.lease, LeaseState.RUNNING, now=1.0)
        self.bob, self.eve = broker_env.grant("bob"), broker_env.grant("eve")
        eve = broker_env.ledger.move(self.eve, LeaseState.CLOSING, now=1.0, cause=Cause.USER)
        broker_env.ledger.move(eve, LeaseState.CLOSED, now=1.0)
        self.write("UPDATE leases SET granted_at = :now, ended_at = :now", now=time.time())
        uid = broker_env.ledger.get_or_create_account("alice", "alice").uid
        broker_env.ledger.mark_home_prepared(uid)
        self.home = names.home_volume(INSTANCE, "alice", uid)
        broker_env.engine.volumes[self.home] = {
            "workbench.instance": INSTANCE,
            "workbench.user": "alice",
        }
        self.run(self.alice)
        self.serve("alice", broker_env.name(self.alice))
        self.serve("bob", "")

    def close(self) -> None:
        """Give the databases back."""
        self._hub.dispose()
        self._ledger.dispose()

    async def probe(self) -> ObservedState:
        """Probe as the auditor does, in a thread, while the broker answers."""
        return await asyncio.to_thread(probe, self.places)

    def run(self, lease: Lease, name: str | None = None, **host_config: Any) -> None:
        """Let a container of ``lease`` run, with whatever name and devices."""
        body = self.broker_env.body(lease)
        body["HostConfig"] |= host_config
        self.broker_env.engine.add(name or self.broker_env.name(lease), body, is_running=True)

    def serve(self, user: str, host: str, server: str = "") -> None:
        """Let the hub's database say that a server is at ``host``; "" while it is starting."""
        with sa.orm.Session(self._hub) as session:
            found = session.scalar(sa.select(orm.User).where(orm.User.name == user))
            owner = found or orm.User(name=user)
            session.add(orm.Spawner(name=server, user=owner, server=orm.Server(ip=host)))
            session.commit()

    def forget_user(self, user: str) -> None:
        """Remove this user from the hub's database."""
        with sa.orm.Session(self._hub) as session:
            session.delete(session.scalars(sa.select(orm.User).where(orm.User.name == user)).one())
            session.commit()

    def write(self, statement: str, **values: object) -> None:
        """Change the ledger past the product."""
        with self._ledger.begin() as ledger:
            ledger.execute(sa.text(statement), values)
