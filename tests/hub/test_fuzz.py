"""Ten thousand bodies to every route: a start is exactly the policy's, all else is one sentence.

The test judges answers as a client sees them; the log may hold no traceback.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from jupyterhub import orm
from yarl import URL

from spawner.hub.identity import identify
from spawner.model import Lease
from spawner.policy.container import build_server
from testing.eventually import eventually
from tests.hub.accounts import join
from tests.hub.hub_env import IMAGE_ID, HubEnvironment, xsrf_of
from tests.hub.malformed_bodies import Case, Cases

BODIES = 10_000
PEOPLE = 12
SEED = 20261123
_FORM_ERROR = re.compile(r'class="spawn-error-msg alert alert-danger">Error: (.*?)</p>', re.DOTALL)
_PAGE_ERROR = re.compile(r"wb-page error[^>]*>\s*<h1>.*?</h1>\s*<p>(.*?)</p>", re.DOTALL)


class Faults(logging.Handler):
    """Remembers every traceback that the hub logs, and whatever asyncio complains of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.name == "asyncio" or "Traceback" in record.getMessage():
            self.seen.append(f"{record.getMessage()[:500]} {record.exc_info}")


@dataclass
class Person:
    """A user of the routes, by token and by browser."""

    name: str
    session: aiohttp.ClientSession
    token: str
    cookies: str
    xsrf: str


class Guard:
    """Sends the bodies, looks at the answers, and stops again what was started."""

    def __init__(self, hub_env: HubEnvironment, root: str) -> None:
        self.hub_env = hub_env
        self.root = root
        self.started = 0
        self.refused = 0
        self.waited = 0
        self.environment: dict[str, str] = {}
        self.complaints: list[str] = []

    async def send(self, person: Person, case: Case) -> None:
        """Send one and look at what came of it; what is wrong is collected, for one fault may hide another."""
        try:
            await self._send(person, case)
        except AssertionError as error:
            self.complaints.append(str(error)[:3000])

    async def _send(self, person: Person, case: Case) -> None:
        status, text = await self.request(person, case)
        told = f"{case} → {status} {text[:600]}"
        assert status < 500, told
        if status >= 400:
            self.refused += 1
            assert_one_sentence(case, text, told)
            return
        for server in ("", *case.servers):
            await self.examine(person, server, told)

    async def request(self, person: Person, case: Case) -> tuple[int, str]:
        path = case.path.replace("{me}", person.name)
        headers = dict(case.headers)
        if case.is_page:
            headers["Cookie"] = person.cookies
            path += f"{'&' if '?' in path else '?'}_xsrf={person.xsrf}"
        else:
            headers["Authorization"] = f"token {self.root if case.as_admin else person.token}"
        url = URL(f"{self.hub_env.url}/hub/{path}", encoded=True)
        async with person.session.request(
            case.method, url, data=case.body, headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, (await answer.read()).decode("utf-8", "replace")

    async def examine(self, person: Person, server: str, told: str) -> None:
        """Compare what was started with the policy, and stop it."""
        ledger = self.hub_env.ledger
        lease = await asyncio.to_thread(ledger.live_lease, person.name, server)
        if lease is None:
            return
        if lease.granted_at is None:
            self.waited += 1
        else:
            await self.until_ready(person, server)
            lease = await asyncio.to_thread(ledger.live_lease, person.name, server)
            assert lease is not None, told
            self.started += 1
            self.compare(person, lease, told)
        await self.stop(person, server)

    async def until_ready(self, person: Person, server: str) -> None:
        spawners = self.hub_env.user(person.name).spawners
        await eventually(
            lambda: server in spawners and spawners[server].ready, "it runs", seconds=60
        )

    def compare(self, person: Person, lease: Lease, told: str) -> None:
        user, settings = self.hub_env.user(person.name), self.hub_env.settings
        account = self.hub_env.ledger.account_by_identity(identify(user))
        assert account is not None
        received = self.hub_env.container(lease).body
        environment = dict(entry.split("=", 1) for entry in received["Env"])
        policy = build_server(
            replace(lease, epoch=lease.epoch - 1),  # it has been confirmed since
            account,
            instance=settings.instance,
            image_id=IMAGE_ID,
            limits=settings.limits,
            environment=user.spawners[lease.server].get_env(),
        )
        assert canonical(received) == canonical(policy), told
        assert environment.pop("JUPYTERHUB_SERVER_NAME") == lease.server, told
        environment.pop("OMP_NUM_THREADS")  # follows the number of GPUs, as policy's body does
        plain = {
            name: anonymous(value, person.name, lease.server, environment)
            for name, value in environment.items()
        }
        self.environment = self.environment or plain
        assert plain == self.environment, told

    async def stop(self, person: Person, server: str) -> None:
        where = f"servers/{server}" if server else "server"
        url = f"{self.hub_env.url}/hub/api/users/{person.name}/{where}"
        headers = {"Authorization": f"token {person.token}"}
        async with person.session.delete(url, headers=headers) as answer:
            assert answer.status in (202, 204), await answer.text()

        async def is_over() -> bool:
            find = self.hub_env.ledger.live_lease
            return await asyncio.to_thread(find, person.name, server) is None

        await eventually(is_over, f"{person.name}/{server} has stopped", seconds=60)


def canonical(body: dict[str, Any]) -> str:
    """Return the bytes of ``body`` whatever order the client on the way gave its keys."""
    return json.dumps(body, sort_keys=True)


def anonymous(value: str, user: str, server: str, environment: dict[str, str]) -> str:
    """Return ``value`` without what may differ between two servers."""
    value = value.replace(environment["JUPYTERHUB_API_TOKEN"], "TOKEN")
    value = value.replace(environment["USER"], "USER").replace(user, "USER")
    return (
        value.replace(f"/{server}/", "/").replace(f"-{server}", "").replace(f"/{server}", "/")
        if server
        else value
    )


def assert_one_sentence(case: Case, text: str, told: str) -> None:
    if case.is_page:
        found = _FORM_ERROR.search(text) or _PAGE_ERROR.search(text)
        assert found, told
        message = re.sub(r"<[^>]*>", "", found[1]).strip()
        message = " ".join(message.split())
    else:
        message = json.loads(text)["message"]
        assert "\n" not in message, told
    assert message, told
    assert message == message.strip(), told
    assert len(message) < 400, told
    assert "Traceback" not in text, told


@pytest.fixture
async def people(hub_env: HubEnvironment) -> Any:
    found = []
    for i in range(PEOPLE):
        name = f"person{i}"
        async with hub_env.browser() as browser:
            await join(hub_env, browser, name)
            xsrf = xsrf_of((await browser.get("/hub/home")).text)
            cookies = "; ".join(f"{c.name}={c.value}" for c in browser.cookies.jar)
        token = hub_env.user(name).new_api_token(note="fuzz")
        found.append(Person(name, aiohttp.ClientSession(), token, cookies, xsrf))
    yield found
    for person in found:
        await person.session.close()


async def test_ten_thousand_bodies_start_what_the_policy_states_or_nothing(
    hub_env: HubEnvironment, people: list[Person]
) -> None:
    faults = Faults()
    hub_env.hub.log.setLevel(logging.WARNING)
    for name in (hub_env.hub.log.name, "asyncio", "spawner"):
        logging.getLogger(name).addHandler(faults)
    hub_env.user("victim")
    guard = Guard(hub_env, hub_env.user("root", is_admin=True).new_api_token(note="fuzz"))
    cases = iter(Cases(SEED).take(BODIES))

    async def stand_at_the_doors(person: Person) -> None:
        for case in cases:
            await guard.send(person, case)

    try:
        async with asyncio.timeout(900), asyncio.TaskGroup() as tasks:
            for person in people:
                tasks.create_task(stand_at_the_doors(person))
    finally:
        for name in (hub_env.hub.log.name, "asyncio", "spawner"):
            logging.getLogger(name).removeHandler(faults)
    print(f"{guard.started} started, {guard.waited} waited, {guard.refused} refused")  # noqa: T201
    if guard.complaints or faults.seen:
        pytest.fail("\n\n".join([*guard.complaints[:20], *faults.seen[:20]]), pytrace=False)
    assert guard.started > 50
    assert guard.waited > 5
    assert guard.refused > BODIES / 2
    known = {"root", *(person.name for person in people)}
    strangers = {user.name for user in hub_env.hub.db.query(orm.User)} - known
    async with hub_env.client("root") as root:
        for name in strangers:
            await root.delete(f"/hub/api/users/{quote(name, safe='')}")
    await eventually(lambda: not hub_env.live(), "nothing runs any more")
    assert hub_env.engine.containers == {}
    names = {row.name for person in people for row in hub_env.user(person.name)._orm_spawners}
    assert names <= {"", *Cases.SERVERS}
