"""Token page and consent page: forms that work without a script, in plain sentences, with a line in the trail."""

import httpx

from spawner.hub.views.scope_sentences import describe_scopes
from spawner.ledger.trail import TrailAction
from tests.hub.accounts import admin, join
from tests.hub.credentials import is_token_valid, post
from tests.hub.hub_env import HubEnvironment, xsrf_of
from tests.hub.pages import attribute, one, parse, words
from tests.hub.servers import start

PAGE = "/hub/token"


async def make(browser: httpx.AsyncClient, **fields: str) -> httpx.Response:
    return await post(browser, PAGE, PAGE, **{"note": "laptop", "expires": "3600", **fields})


async def test_a_token_is_made_shown_once_and_revoked(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        shown = parse((await make(browser)).text)
        token = words(one(shown, "#token-result"))
        assert await is_token_valid(hub_env, token)
        page = parse((await browser.get(PAGE)).text)
        assert page.select_one("#token-result") is None
        row = one(page, "tr[data-token-id]")
        assert "laptop Everything that you may do" in words(row)
        form = one(row, "form")
        data = {"_xsrf": xsrf_of(str(page))}
        assert (await browser.post(attribute(form, "action"), data=data)).status_code == 302
        assert not await is_token_valid(hub_env, token)
        again = await browser.post(attribute(form, "action"), data=data)
        assert (again.status_code, "This token is revoked already." in again.text) == (404, True)


async def test_a_token_with_fewer_rights(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        for rights, may_start in (("see", False), ("servers", True)):
            token = words(one(parse((await make(browser, rights=rights)).text), "#token-result"))
            headers = {"Authorization": f"token {token}"}
            async with httpx.AsyncClient(base_url=hub_env.url, headers=headers) as program:
                for path in ("workbench/gpus", "workbench/queue", "workbench/server/lease"):
                    assert (await program.get(f"/hub/api/{path}")).status_code == 200
                assert (await program.post("/hub/api/users/alice/tokens")).status_code == 403
                body = {"gpus": 0}
                started = await program.post("/hub/api/users/alice/server", json=body)
                assert started.is_success is may_start
        page = words(one(parse((await browser.get(PAGE)).text), "main"))
    for scope in ("custom:", "read:", "!user", "inherit"):
        assert scope not in page


async def test_a_form_that_cannot_be_used_is_one_sentence(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser, hub_env.browser() as other:
        await join(hub_env, browser, "alice")
        for fields, said in (
            ({"note": " "}, "what it is for"),
            ({"note": "x" * 101}, "what it is for"),
            ({"expires": "1"}, "from the lists"),
            ({"rights": "root"}, "from the lists"),
        ):
            answer = await make(browser, **fields)
            assert (answer.status_code, said in answer.text) == (400, True)
        await join(hub_env, other, "bob")
        hub_env.user("alice").new_api_token(note="alice's")
        token = hub_env.user("alice").api_tokens[0].api_id
        stolen = await post(other, PAGE, f"/hub/token/{token}/revoke")
        assert stolen.status_code == 404
        assert hub_env.user("alice").api_tokens


async def test_an_admin_who_opens_another_s_server_is_asked_and_recorded(
    hub_env: HubEnvironment,
) -> None:
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        await join(hub_env, browser, "alice")
        assert await start(hub_env, "alice", {"gpus": 0}) == (201, "")
        query = (
            "client_id=jupyterhub-user-alice&response_type=code"
            "&redirect_uri=%2Fuser%2Falice%2Foauth_callback"
        )
        address = f"/hub/api/oauth2/authorize?{query}"
        page = await approver.get(address)
        assert "The audit trail records it." in page.text
        assert words(one(parse(page.text), "h1")) == "Open the server of alice"
        visible = words(one(parse(page.text), "main"))
        for scope in ("access:servers", "read:users", "!server"):
            assert scope not in visible
        assert opened(hub_env) == []
        form = parse(page.text).select("main input")
        data: dict[str, list[str]] = {}
        for field in form:
            data.setdefault(attribute(field, "name"), []).append(attribute(field, "value"))
        headers = {"Referer": f"{hub_env.url}{address}"}
        answer = await approver.post(address, data=data, headers=headers)
        assert "code=" in answer.headers["Location"]
        assert opened(hub_env) == [("admin", "user alice", {"server": ""})]
        assert "code=" in (await browser.get(address)).headers["Location"], "one's own"
        assert len(opened(hub_env)) == 1


def opened(hub_env: HubEnvironment) -> list[tuple[str, str, object]]:
    return [
        (stored.entry.actor, stored.entry.subject, stored.entry.after)
        for stored in hub_env.ledger.trail()
        if stored.entry.action is TrailAction.SERVER_OPENED
    ]


def test_no_scope_has_its_name_in_its_sentence() -> None:
    scopes = ("inherit", "read:users:name!user=alice", "access:servers!server=bob/", "custom:x:y")
    assert describe_scopes("alice", scopes) == (
        "A right of this workbench",
        "Everything that you may do",
        "Open a server (the default server of bob)",
        "See your name",
    )
    assert describe_scopes("alice", ()) == ("Know your name",)
