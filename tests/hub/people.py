"""Groups and services of the town's hub, and what somebody may beyond their kind."""

from __future__ import annotations

from typing import Any

import httpx
from jupyterhub import orm
from jupyterhub.roles import create_role, grant_role

from tests.hub.town import Town


def make_group(town: Town, name: str, *members: str) -> None:
    """Put ``members`` in a new group."""
    found = orm.Group(name=name)
    found.users = [town.user(member).orm_user for member in members]
    town.hub.db.add(found)
    town.hub.db.commit()


def make_service(town: Town, name: str, *scopes: str) -> httpx.AsyncClient:
    """Return a REST client that acts as a new service with ``scopes``."""
    service = orm.Service(name=name)
    town.hub.db.add(service)
    town.hub.db.commit()
    give_scopes(town, service, *scopes)
    headers = {"Authorization": f"token {service.new_api_token(note='test')}"}
    return httpx.AsyncClient(base_url=town.url, headers=headers, timeout=30)


def give_scopes(town: Town, entity: Any, *scopes: str) -> None:
    """Let the user or service of the hub's database have ``scopes``, besides those of their kind."""
    name = f"role-{entity.name}"
    create_role(town.hub.db, {"name": name, "scopes": list(scopes)})
    grant_role(town.hub.db, entity, name)
    town.hub.db.commit()
