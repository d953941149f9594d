"""Queries of the hub's own database are bounded, and a known user keeps groups and scopes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from jupyterhub import orm

from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment


@contextmanager
def statements(hub_env: HubEnvironment) -> Iterator[list[str]]:
    """Yield what the hub's database is asked within the block."""
    engine, asked = hub_env.hub.db.get_bind(), list[str]()

    def note(*event: Any) -> None:
        asked.append(" ".join(event[2].split()))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


async def test_a_page_of_a_known_user_asks_only_who_they_are(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        await browser.get("/hub/home")
        hub_env.hub.db.commit()  # the next question opens a connection
        with statements(hub_env) as asked:
            assert (await browser.get("/hub/home")).is_success
    (who,) = asked
    assert who.startswith("SELECT users.id")


async def test_who_is_known_has_every_role_and_group_that_they_are_given(
    hub_env: HubEnvironment,
) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        await browser.get("/hub/home")
        alice = orm.User.find(hub_env.hub.db, "alice")
        group = orm.Group(name="team", users=[alice])
        hub_env.hub.db.add(group)
        alice.roles.append(orm.Role.find(hub_env.hub.db, "admin"))
        hub_env.hub.db.commit()
        found = orm.User.find(hub_env.hub.db, "alice")
        assert {role.name for role in found.roles} == {"user", "admin"}
        assert found.groups == [group]
        assert (await browser.get("/hub/admin")).is_success


async def test_all_roles_are_one_question_when_they_are_loaded(
    hub_env: HubEnvironment,
) -> None:
    for name in ("alice", "bob", "carol"):
        async with hub_env.browser() as browser:
            await join(hub_env, browser, name)
    hub_env.hub.db.expunge_all()
    with statements(hub_env) as asked:
        everybody = hub_env.hub.db.query(orm.User).all()
        assert all("user" in {role.name for role in user.roles} for user in everybody)
    assert sum("user_role_map" in statement for statement in asked) == 1
