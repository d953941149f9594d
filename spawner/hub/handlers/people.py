"""Page and REST API of people: the list of users and sign-ups, one person, and the orders of ``people_orders``.

Each order of a page is a form, so the pages work without JavaScript; a refused order shows the page with one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, urlencode

from jupyterhub.user import User
from jupyterhub.utils import utcnow
from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require
from spawner.hub.handlers.api_base import ApiHandler, GetWorkbench, Route, bad_request, read_reason
from spawner.hub.handlers.operation import operation
from spawner.hub.handlers.password_reset import make_password_link
from spawner.hub.handlers.people_orders import ORDERS, PeopleOrders
from spawner.hub.schema.base import MAX_REASON_CHARACTERS
from spawner.hub.schema.people import (
    MAX_PAGE,
    MAX_SEARCH_CHARACTERS,
    GroupsBody,
    PeopleJson,
    PeopleSearch,
    PersonJson,
    PersonOrderBody,
    Show,
)
from spawner.hub.servers.revocation import select_server_tokens
from spawner.hub.views.people import (
    PeopleDirectory,
    PeopleQuery,
    Person,
    group_names,
)

DONE = {
    "approve": "{} is approved and may log in now.",
    "unapprove": "The approval of {} is taken back. Sessions, tokens, queue positions and servers end.",
    "decline": "The sign-up of {} is removed.",
    "groups": "The groups of {} are saved.",
    "admin": "The rights of {} are changed.",
    "log-out": "{} is logged out everywhere and has left the queue. Servers go on.",
    "stop": "The server of {} ends, and its user reads your reason.",
    "delete": "{} is deleted. The home stays.",
}
"""The sentence of each order that was carried out; the address names the order."""
_FIELDS = ("search", "show", "page")


class PeopleBase(PeopleOrders):
    """Base of pages and REST API: reads the query of the address, and the people."""

    @property
    def directory(self) -> PeopleDirectory:
        """Return the reader of people."""
        return PeopleDirectory(self.workbench, self.db, has_sign_up=self.has_sign_up)

    def read_query(self) -> PeopleQuery:
        """Return the query of the address; raises a 400."""
        return parse_query({name: self.get_query_argument(name, "") for name in _FIELDS})

    async def require_person(self, name: str) -> Person:
        """Return the person ``name``; raises a 404."""
        person = await self.directory.read_person(name)
        if person is None:
            raise web.HTTPError(404, f"There is no user and no sign-up {name[:40]!r}.")
        return person


class PeoplePage(PeopleBase):
    """``/hub/people``: the list, with those who wait for approval first."""

    @web.authenticated
    async def get(self) -> None:
        """Render one page of the list."""
        require(self, "admin:users")
        error = None
        try:
            query = self.read_query()
        except web.HTTPError as refused:
            query, error = PeopleQuery(), refused.get_message()
            self.set_status(HTTPStatus.BAD_REQUEST)
        await self.finish_list(query, error=error, said=read_said(self))

    async def finish_list(
        self, query: PeopleQuery, *, error: str | None = None, said: str | None = None
    ) -> None:
        """Render the list of ``query``."""
        view = await self.directory.read_page(query)
        if query.page > view.pages:
            query = replace(query, page=view.pages)
            view = await self.directory.read_page(query)
        page = await self.render_template(
            "people.html",
            view=view,
            shows=list(Show),
            error=error,
            said=said,
            query=_as_query(query),
            link_to=lambda number: _as_query(replace(query, page=number)),
        )
        self.finish(page)


class PersonPage(PeopleBase):
    """``/hub/people/<name>``: one person with every order."""

    @web.authenticated
    async def get(self, name: str) -> None:
        """Render the person."""
        require(self, "admin:users")
        await self.finish_person(name, said=read_said(self))

    async def finish_person(
        self,
        name: str,
        *,
        error: str | None = None,
        said: str | None = None,
        password_link: str | None = None,
    ) -> None:
        """Render the person, with the sentence of an order that was refused or carried out."""
        person = await self.require_person(name)
        user = self.find_user(name)
        page = await self.render_template(
            "person.html",
            person=person,
            error=error,
            said=said,
            password_link=password_link,
            all_groups=group_names(self.db),
            tokens=0 if user is None else count_tokens(user),
            is_managed=bool(self.authenticator.manage_groups),
            is_permanent=name in self.authenticator.admin_users,
            url_of=None if user is None else user.server_url,
            may={
                "stop": self.has_scope(scopes.END) or self.has_scope(scopes.ADMIN),
                "groups": self.has_scope("admin:groups"),
                "delete": self.has_scope(f"delete:users!user={name}"),
                "admin": bool(getattr(self.current_user, "admin", False)),
                "open": self.has_scope(f"access:servers!user={name}"),
            },
            has_account_page=self.has_sign_up,
        )
        self.finish(page)


class PersonOrderPage(PersonPage, PeoplePage):
    """``POST /hub/people/<name>/<order>``: carries an order out and leads back to the page that sent it."""

    @web.authenticated
    async def get(self, name: str, _order: str) -> None:
        """Lead to the person: a link changes nothing."""
        require(self, "admin:users")
        self.redirect(self._address(name))

    @web.authenticated
    async def post(self, name: str, order: str) -> None:
        """Carry out the order, or show the page again with the reason why not."""
        require(self, "admin:users")
        is_list = bool(self.get_body_argument("list", ""))
        query = parse_query(dict(parse_qsl(self.get_body_argument("query", ""))))
        try:
            if order == "password-link":
                self._require_right(name)
                path = await make_password_link(self, name)
                origin = (
                    self.workbench.settings.public_url
                    or self.request.full_url().partition(self.hub.base_url)[0]
                )
                await self.finish_person(name, password_link=f"{origin}{path}")
                return
            await self._carry_out(name, order)
        except web.HTTPError as refused:
            if refused.status_code not in (400, 404, 409):
                raise
            self.set_status(refused.status_code)
            sentence = refused.get_message()
            if is_list or await self.directory.read_person(name) is None:
                await self.finish_list(query, error=sentence)
            else:
                await self.finish_person(name, error=sentence)
            return
        said = {"done": order, "name": name}
        if is_list or order in ("decline", "delete"):
            self.redirect(f"{self.hub.base_url}people?{_as_query(query, **said)}")
        else:
            self.redirect(f"{self._address(name)}?{urlencode({'done': order})}")

    async def _carry_out(self, name: str, order: str) -> None:
        reason = read_reason(self.get_body_argument("reason", ""), MAX_REASON_CHARACTERS)
        if order in ORDERS:
            await ORDERS[order](self, name, reason)
        elif order == "delete":
            await self.delete_person(name, reason)
        elif order == "groups":
            new = self.get_body_argument("new", "").split(",")
            chosen = [*self.get_body_arguments("group"), *(one.strip() for one in new)]
            await self.set_groups(name, [group for group in chosen if group], reason)
        elif order == "admin":
            await self.set_admin(name, is_admin=self.get_body_argument("admin", "") == "yes")
        else:
            await self.stop(name, self.get_body_argument("lease", ""), reason)

    def _address(self, name: str) -> str:
        return f"{self.hub.base_url}people/{quote(name, safe='')}"


class PeopleApiHandler(PeopleBase, ApiHandler):
    """``GET /hub/api/workbench/people``."""

    @operation(
        "listPeople",
        "List users and sign-ups, those that wait for approval first, page by page.",
        scope="admin:users",
        query=PeopleSearch,
        answers="One page of people.",
        answer=PeopleJson,
    )
    async def get(self) -> None:
        """Answer one page of the list."""
        require(self, "admin:users")
        view = await self.directory.read_page(self.read_query())
        self.finish(json.dumps(view.as_json()))


class PersonApiHandler(PeopleBase, ApiHandler):
    """``GET /hub/api/workbench/people/<name>``."""

    @operation(
        "readPerson",
        "Read one user or sign-up.",
        scope="admin:users",
        answers="The person.",
        answer=PersonJson,
        refusals=(HTTPStatus.NOT_FOUND,),
    )
    async def get(self, name: str) -> None:
        """Answer one person."""
        require(self, "admin:users")
        self.finish(json.dumps((await self.require_person(name)).as_json()))


class PersonOrderApiHandler(PeopleBase, ApiHandler):
    """``POST /hub/api/workbench/people/<name>/<order>`` with an optional ``reason``."""

    @operation(
        "person",
        "Approve, unapprove, decline or log out a person.",
        description="`approve` lets an account log in. `unapprove` takes that back: sessions, tokens, queue "
        "positions and servers end. `decline` removes an account that is not approved. `log-out` ends sessions, "
        "tokens and queue positions; servers go on.",
        scope="admin:users",
        body=PersonOrderBody,
        answers="Done.",
        status=HTTPStatus.NO_CONTENT,
        refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    async def post(self, name: str, order: str) -> None:
        """Carry out the order."""
        require(self, "admin:users")
        await ORDERS[order](self, name, self.read_as(PersonOrderBody).reason)
        self.set_status(HTTPStatus.NO_CONTENT)


class PersonGroupsApiHandler(PeopleBase, ApiHandler):
    """``PUT /hub/api/workbench/people/<name>/groups``."""

    @operation(
        "setGroups",
        "Replace the groups of a user; a group that does not exist is created.",
        scope="admin:groups",
        body=GroupsBody,
        answers="Done.",
        status=HTTPStatus.NO_CONTENT,
        refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    async def put(self, name: str) -> None:
        """Replace the groups of a user."""
        require(self, "admin:groups")
        body = self.read_as(GroupsBody)
        await self.set_groups(name, body.groups, body.reason)
        self.set_status(HTTPStatus.NO_CONTENT)


def parse_query(given: Mapping[str, str]) -> PeopleQuery:
    """Return the query of the fields ``search``, ``show`` and ``page``; raises a 400 with one sentence."""
    search = given.get("search", "").strip()
    if len(search) > MAX_SEARCH_CHARACTERS:
        raise bad_request(f"Search for at most {MAX_SEARCH_CHARACTERS} characters.")
    show = given.get("show") or Show.ALL.value
    if show not in list(Show):
        raise bad_request(f"There is no list {show[:40]!r}: choose {', '.join(Show)}.")
    page = given.get("page") or "1"
    is_number = page.isascii() and page.isdecimal() and len(page) <= len(str(MAX_PAGE))
    if not is_number or not 1 <= int(page) <= MAX_PAGE:
        raise bad_request(f"There is no page {page[:40]!r}: give a number from 1.")
    return PeopleQuery(search, Show(show), int(page))


def read_said(handler: PeopleBase) -> str | None:
    """Return the sentence of the order that the address names, None without one."""
    done = DONE.get(handler.get_query_argument("done", ""))
    names = handler.path_args or [handler.get_query_argument("name", "")]
    return None if done is None else done.format(names[0])


def count_tokens(user: User) -> int:
    """Return the number of valid API tokens of ``user``, without those of running servers."""
    servers, now = select_server_tokens(user), utcnow(with_tz=False)
    return sum(
        token.client_id == "jupyterhub"
        and token.id not in servers
        and (token.expires_at is None or token.expires_at > now)
        for token in user.api_tokens
    )


def people_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    options = {"get_workbench": get_workbench}
    orders = "|".join(ORDERS)
    person = "/api/workbench/people/([^/]+)"
    return [
        ("/people", PeoplePage, options),
        ("/people/([^/]+)", PersonPage, options),
        (
            f"/people/([^/]+)/({orders}|groups|admin|stop|delete|password-link)",
            PersonOrderPage,
            options,
        ),
        ("/api/workbench/people", PeopleApiHandler, options),
        (person, PersonApiHandler, options),
        (f"{person}/({orders})", PersonOrderApiHandler, options),
        (f"{person}/groups", PersonGroupsApiHandler, options),
    ]


def _as_query(query: PeopleQuery, **more: str) -> str:
    given = {"search": query.search, "show": query.show.value, "page": str(query.page)}
    usual = {"show": Show.ALL.value, "page": "1"}
    kept = {name: text for name, text in given.items() if text and text != usual.get(name)}
    return urlencode({**kept, **more})
