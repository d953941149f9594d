"""People: the list of users and sign-ups, one person, and each order over them, as forms and by REST."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest
import sqlalchemy as sa
from jupyterhub import orm
from nativeauthenticator.orm import UserInfo

from spawner.hub.handlers.people import parse_query
from spawner.hub.views.people import PAGE_PEOPLE
from spawner.ledger.trail import TrailAction
from spawner.model import Cause, LeaseState
from testing.eventually import eventually
from tests.hub.accounts import admin, join, press, sign_up
from tests.hub.credentials import is_let_in, is_token_valid
from tests.hub.hub_env import HubEnvironment, xsrf_of
from tests.hub.pages import attribute, one, parse, words
from tests.hub.people import make_group
from tests.hub.quotas import put_quota
from tests.hub.servers import is_queued, lease_of, start

API = "/hub/api/workbench/people"


def make_crowd(hub_env: HubEnvironment, number: int) -> None:
    """Add ``number`` approved users without an ORM object for each."""
    names = [f"user{i:04}" for i in range(number)]
    db = hub_env.hub.db
    db.execute(sa.insert(orm.User), [{"name": name, "admin": False} for name in names])
    accounts = [{"username": name, "password": b"x", "is_authorized": True} for name in names]
    db.execute(sa.insert(UserInfo), accounts)
    db.commit()


@contextmanager
def counted_queries(hub_env: HubEnvironment) -> Iterator[list[str]]:
    queries: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        queries.append(statement)

    engine = hub_env.hub.db.get_bind()
    sa.event.listen(engine, "before_cursor_execute", note)
    yield queries
    sa.event.remove(engine, "before_cursor_execute", note)


async def people(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"{API}?{query}")
    assert answer.status_code == 200, answer.text
    return [person["name"] for person in answer.json()["people"]]


async def test_the_list_says_who_waits_and_what_each_person_has(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        await join(hub_env, browser, "alice")
        await sign_up(hub_env.browser(), "zoe")
        make_group(hub_env, "vision", "alice")
        await put_quota(hub_env, "/groups/vision", max_gpus=2, gpu_hours=80, window_days=7)
        await start(hub_env, "alice", {"gpus": 1, "hours": 4})
        page = parse((await approver.get("/hub/people")).text)
        other = parse((await browser.get("/hub/home")).text)
    first, *_ = page.select(".wb-people tbody tr")
    assert "zoe waiting for approval" in words(first), "they come first"
    row = words(one(page, "#person-alice"))
    assert (
        "vision 2 GPUs, 80 GPU-hours in 7 days Default server: 1 GPU, running, 3 h 59 min left"
        in row
    )
    assert "People 1 waiting for approval" in words(one(page, "nav"))
    assert words(one(page, "title")) == "People · GPU Workbench"
    assert other.select_one("[href='/hub/people']") is None


async def test_approve_and_decline_from_the_list_lead_back_to_its_search(
    hub_env: HubEnvironment,
) -> None:
    async with admin(hub_env) as approver:
        for name in ("zoe", "zack"):
            await sign_up(hub_env.browser(), name)
        back = {"list": "yes", "query": "search=z&show=waiting"}
        answer = await press(approver, "approve", "zoe", **back)
        assert answer.headers["Location"].startswith("/hub/people?search=z&show=waiting&done=")
        page = parse((await approver.get(answer.headers["Location"])).text)
        assert words(one(page, "[role=status]")) == "zoe is approved and may log in now."
        assert [row["id"] for row in page.select("tbody tr")] == ["person-zack"]
        await press(approver, "decline", "zack", **back)
        refused = await press(approver, "approve", "zack", **back)
        assert refused.status_code == 404
        assert "There is no sign-up with the name &#39;zack&#39;." in refused.text


async def test_search_and_pages(hub_env: HubEnvironment) -> None:
    make_crowd(hub_env, PAGE_PEOPLE + 1)
    make_group(hub_env, "vision", "user0007")
    async with hub_env.client("root", is_admin=True) as root:
        assert len(await people(root)) == PAGE_PEOPLE
        last = await people(root, "page=2")
        assert last == ["user0048", "user0049", "user0050"], "admin and root come first"
        assert await people(root, "search=USER0012") == ["user0012"]
        assert await people(root, "search=visio") == ["user0007"]
        assert await people(root, "search=%25") == []
        assert await people(root, "show=admins") == ["admin", "root"]
        assert await people(root, "show=servers") == []
        for query, said in (
            ("page=0", "There is no page '0'"),
            ("page=x", "There is no page 'x'"),
            ("page=9999999999", "There is no page '9999999999'"),
            ("show=none", "There is no list 'none': choose all"),
            (f"search={'x' * 101}", "Search for at most 100 characters."),
        ):
            answer = await root.get(f"{API}?{query}")
            assert (answer.status_code, said in answer.json()["message"]) == (400, True)
    async with admin(hub_env) as approver:
        page = parse((await approver.get("/hub/people?search=user")).text)
        later = parse((await approver.get(attribute(one(page, "[rel=next]"), "href"))).text)
        beyond = await approver.get("/hub/people?page=77")
        wrong = await approver.get("/hub/people?show=none")
    assert len(later.select("tbody tr")) == 1
    assert "Page 2 of 2" in beyond.text
    assert (wrong.status_code, "There is no list" in wrong.text) == (400, True)


async def test_two_thousand_people_cost_as_many_queries_as_ten(hub_env: HubEnvironment) -> None:
    make_crowd(hub_env, 10)
    numbers = []
    async with admin(hub_env) as approver:
        await approver.get("/hub/people")
        for more in (0, 2000):
            if more:
                hub_env.hub.db.execute(sa.delete(UserInfo).where(UserInfo.username != "admin"))
                hub_env.hub.db.execute(sa.delete(orm.User).where(orm.User.name != "admin"))
                make_crowd(hub_env, more)
            with counted_queries(hub_env) as queries:
                began = time.process_time()
                answer = await approver.get("/hub/people?page=2" if more else "/hub/people")
                seconds = time.process_time() - began
            assert answer.status_code == 200
            numbers.append(len(queries))
    assert numbers[0] == numbers[1], queries
    assert seconds < 0.3


async def test_groups_are_replaced_and_the_trail_keeps_both_lists(hub_env: HubEnvironment) -> None:
    hub_env.user("alice")
    make_group(hub_env, "vision", "alice")
    async with admin(hub_env) as approver:
        answer = await press(approver, "groups", "alice", group="vision", new="audio, chess,")
        assert answer.status_code == 302
        page = parse((await approver.get("/hub/people/alice")).text)
        checked = [box["value"] for box in page.select("[name=group][checked]")]
        assert checked == ["audio", "chess", "vision"]
        refused = await press(approver, "groups", "alice", new="x" * 65)
        assert (refused.status_code, "A group&#39;s name has" in refused.text) == (400, True)
        body = {"groups": ["audio"], "reason": "moved"}
        async with hub_env.client("root", is_admin=True) as root:
            path = f"{API}/alice/groups"
            assert (await root.put(path, json=body)).status_code == 204
            assert (await root.put(path, json=body)).status_code == 204, "no second entry"
            assert (await root.put(path, json={"groups": "audio"})).status_code == 400
            found = (await root.get(f"{API}/alice")).json()
    assert found["groups"] == ["audio"]
    newest, older = [
        stored.entry
        for stored in hub_env.ledger.trail()
        if stored.entry.action is TrailAction.USER_GROUPS_CHANGED
    ]
    assert (newest.actor, newest.reason) == ("root", "moved")
    assert newest.before == {"groups": ["audio", "chess", "vision"]}
    assert older.before == {"groups": ["vision"]}


async def test_a_server_is_stopped_with_a_reason_that_its_user_reads(
    hub_env: HubEnvironment,
) -> None:
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        await join(hub_env, browser, "alice")
        await start(hub_env, "alice", {"gpus": 2})
        lease = lease_of(hub_env, "alice").id
        refused = await press(approver, "stop", "alice", lease=lease)
        assert (refused.status_code, "Give a reason" in refused.text) == (400, True)
        assert lease_of(hub_env, "alice").state is LeaseState.RUNNING
        await press(approver, "stop", "alice", lease=lease, reason="the room is too hot")
        await eventually(lambda: not hub_env.live(), "the server ends")
        assert "the room is too hot" in (await browser.get("/hub/home")).text
        again = await press(approver, "stop", "alice", lease=lease, reason="again")
        assert (again.status_code, "This lease is over already" in again.text) == (409, True)


async def test_admins_are_made_and_removed_but_never_the_last(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        await join(hub_env, browser, "alice")
        assert (await press(approver, "admin", "alice", admin="yes")).status_code == 302
        assert (await browser.get("/hub/people")).status_code == 200
        assert (await press(approver, "admin", "alice", admin="no")).status_code == 302
        assert (await browser.get("/hub/people")).status_code == 403
        for order, fields in (("admin", {"admin": "no"}), ("unapprove", {}), ("delete", {})):
            refused = await press(approver, order, "admin", **fields)
            assert refused.status_code == 409, order
        assert await is_let_in(approver)
    changed = [
        stored.entry.after
        for stored in hub_env.ledger.trail()
        if stored.entry.action is TrailAction.USER_ADMIN_CHANGED
    ]
    assert changed == [{"admin": False}, {"admin": True}]


async def test_a_deletion_says_and_ends_everything_but_the_home(hub_env: HubEnvironment) -> None:
    hub_env.be_brisk()
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        await join(hub_env, browser, "alice")
        token = hub_env.user("alice").new_api_token(note="laptop")
        await start(hub_env, "alice", {"gpus": 1})
        lease = lease_of(hub_env, "alice")
        async with hub_env.client("alice") as client:
            await client.post("/hub/api/users/alice/servers/second", json={"gpus": 2, "hours": 1})
        await eventually(partial(is_queued, hub_env, "alice"), "alice waits")
        page = words(parse((await approver.get("/hub/people/alice")).text))
        assert "3 tokens, 1 place in the queue and 1 server" in page
        assert "The home stays" in page
        answer = await press(approver, "delete", "alice", reason="left the lab")
        assert answer.headers["Location"] == "/hub/people?done=delete&name=alice"
        assert not await is_let_in(browser)
        assert not await is_token_valid(hub_env, token)
        assert (await approver.get("/hub/people/alice")).status_code == 404
    assert hub_env.live() == []
    ended = hub_env.ledger.lease(lease.id)
    assert ended is not None
    assert ended.cause is Cause.ADMIN
    assert hub_env.ledger.accounts(), "the home is listed as that of a deleted user"
    (entry,) = [
        stored.entry
        for stored in hub_env.ledger.trail()
        if stored.entry.action is TrailAction.USER_DELETED
    ]
    assert (entry.actor, entry.reason) == ("admin", "left the lab")


async def test_orders_by_rest(hub_env: HubEnvironment) -> None:
    async with hub_env.client("root", is_admin=True) as root, hub_env.browser() as browser:
        await sign_up(browser, "alice")
        assert (await root.get(f"{API}/alice")).json()["log_in"] == "waiting"
        assert (await root.post(f"{API}/alice/approve")).status_code == 204
        assert (await root.get(f"{API}/alice")).json()["log_in"] == "approved"
        refused = await root.post(f"{API}/alice/decline", json={})
        assert refused.json()["message"] == "alice is approved: withdraw the approval first."
        body = {"reason": "left"}
        assert (await root.post(f"{API}/alice/unapprove", json=body)).status_code == 204
        assert (await root.post(f"{API}/alice/log-out")).status_code == 404, "never logged in"
        assert (await root.post(f"{API}/alice/decline", json=body)).status_code == 204
        assert (await root.get(f"{API}/alice")).status_code == 404
        for wrong in ({"why": "x"}, {"reason": 1}, {"reason": "x" * 201}, {"reason": "a\nb"}):
            assert (await root.post(f"{API}/root/log-out", json=wrong)).status_code == 400
        async with hub_env.client("carol") as carol:
            assert (await carol.post(f"{API}/alice/approve")).status_code == 403
            assert (await carol.get(API)).status_code == 403


async def test_a_page_with_a_script_that_is_off(hub_env: HubEnvironment) -> None:
    async with admin(hub_env) as approver:
        await sign_up(hub_env.browser(), "zoe")
        page = parse((await approver.get("/hub/people/zoe")).text)
        form = one(page, "form[action$=approve]")
        data = {
            attribute(field, "name"): attribute(field, "value") for field in form.select("input")
        }
        answer = await approver.post(attribute(form, "action"), data=data)
        assert answer.status_code == 302
        assert xsrf_of(str(page)) == data["_xsrf"]


@pytest.mark.parametrize("text", ["", "all", "waiting", "servers", "admins"])
def test_every_list_has_a_query(text: str) -> None:
    assert parse_query({"show": text}).show.value == (text or "all")


async def test_a_password_link_is_shown_once_and_works(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        await join(hub_env, browser, "alice")
        page = parse((await press(approver, "password-link", "alice")).text)
        link = words(one(page, "code.wb-token"))
        assert link.startswith(f"{hub_env.url}/hub/reset-password?token=")
        assert "For the account alice" in words(parse((await browser.get(link)).text))
        refused = await press(approver, "password-link", "zoe")
        assert refused.status_code == 404
