"""What JupyterHub asks its own database is bounded, and somebody who is known already still has what they have."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from jupyterhub import orm

from tests.hub.test_sign_up import join
from tests.hub.town import Town


@contextmanager
def statements(town: Town) -> Iterator[list[str]]:
    """Yield what the hub's database is asked within the block."""
    engine, asked = town.hub.db.get_bind(), list[str]()

    def note(*event: Any) -> None:
        asked.append(" ".join(event[2].split()))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


async def test_a_page_of_somebody_known_asks_only_who_they_are(town: Town) -> None:
    async with town.browser() as browser:
        await join(town, browser, "alice")
        await browser.get("/hub/home")
        town.hub.db.commit()  # the next question opens a connection
        with statements(town) as asked:
            assert (await browser.get("/hub/home")).is_success
    (who,) = asked
    assert who.startswith("SELECT users.id")


async def test_who_is_known_has_every_role_and_group_that_they_are_given(town: Town) -> None:
    async with town.browser() as browser:
        await join(town, browser, "alice")
        await browser.get("/hub/home")
        alice = orm.User.find(town.hub.db, "alice")
        group = orm.Group(name="team", users=[alice])
        town.hub.db.add(group)
        alice.roles.append(orm.Role.find(town.hub.db, "admin"))
        town.hub.db.commit()
        found = orm.User.find(town.hub.db, "alice")
        assert {role.name for role in found.roles} == {"user", "admin"}
        assert found.groups == [group]
        assert (await browser.get("/hub/admin")).is_success


async def test_everybody_s_roles_are_one_question_when_they_are_loaded(town: Town) -> None:
    for name in ("alice", "bob", "carol"):
        async with town.browser() as browser:
            await join(town, browser, name)
    town.hub.db.expunge_all()
    with statements(town) as asked:
        everybody = town.hub.db.query(orm.User).all()
        assert all("user" in {role.name for role in user.roles} for user in everybody)
    assert sum("user_role_map" in statement for statement in asked) == 1
