"""People: groups, services and extra scopes in the hub's database."""

from __future__ import annotations

from typing import Any

import httpx
from jupyterhub import orm
from jupyterhub.roles import create_role, grant_role

from tests.hub.hub_env import HubEnvironment


def make_group(hub_env: HubEnvironment, name: str, *members: str) -> None:
    """Put ``members`` in a new group."""
    found = orm.Group(name=name)
    found.users = [hub_env.user(member).orm_user for member in members]
    hub_env.hub.db.add(found)
    hub_env.hub.db.commit()


def make_service(hub_env: HubEnvironment, name: str, *scopes: str) -> httpx.AsyncClient:
    """Return a REST client that acts as a new service with ``scopes``."""
    service = orm.Service(name=name)
    hub_env.hub.db.add(service)
    hub_env.hub.db.commit()
    give_scopes(hub_env, service, *scopes)
    headers = {"Authorization": f"token {service.new_api_token(note='test')}"}
    return httpx.AsyncClient(base_url=hub_env.url, headers=headers, timeout=30)


def give_scopes(hub_env: HubEnvironment, entity: Any, *scopes: str) -> None:
    """Let the user or service of the hub's database have ``scopes`` in addition to those of its kind."""
    name = f"role-{entity.name}"
    create_role(hub_env.hub.db, {"name": name, "scopes": list(scopes)})
    grant_role(hub_env.hub.db, entity, name)
    hub_env.hub.db.commit()
