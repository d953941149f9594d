"""Quotas over REST, form and page: their scopes, their refusals, and their end with their subject."""

from typing import Any

import pytest

from spawner.model import Unknown
from spawner.policy.quota_rows import QuotaRow, Subject, SubjectKind, group
from testing.eventually import eventually
from tests.hub.accounts import admin, join
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import one, parse
from tests.hub.people import give_scopes, make_group, make_service
from tests.hub.quotas import QUOTAS, put_quota, request_quotas
from tests.hub.servers import start

# --- what they refuse


async def test_a_member_of_a_group_sees_why_and_gets_what_it_allows(
    hub_env: HubEnvironment,
) -> None:
    make_group(hub_env, "vision", "alice")
    await put_quota(hub_env, "/groups/vision", max_gpus=1, reason="a paper")
    status, message = await start(hub_env, "alice", {"gpus": 2})
    assert (status, message) == (
        409,
        "You asked for 2 GPUs and hold or wait for 0, but your quota is 1 at once: ask for 1 or fewer, or ask an "
        "admin to raise it.",
    )
    assert (await start(hub_env, "alice", {"gpus": 1}))[0] == 201
    assert (await start(hub_env, "bob", {"gpus": 1}))[0] == 201, "the quota is the group's alone"


async def test_the_total_of_a_group_binds_its_members(hub_env: HubEnvironment) -> None:
    make_group(hub_env, "vision", "alice", "bob")
    await put_quota(hub_env, "/groups/vision", total_gpus=1)
    assert (await start(hub_env, "alice", {"gpus": 1}))[0] == 201
    status, message = await start(hub_env, "bob", {"gpus": 1})
    assert status == 409
    assert message.startswith("You asked for 1 GPU, and group vision holds or waits for 1, but")


async def test_a_lease_is_extended_within_the_quota_of_now(hub_env: HubEnvironment) -> None:
    hub_env.user("alice")
    await put_quota(hub_env, "/users/alice", gpu_hours=2, window_days=7)
    assert (await start(hub_env, "alice", {"gpus": 1, "hours": 1}))[0] == 201
    async with hub_env.client("alice") as client:
        fine = await client.post("/hub/api/workbench/server/lease", json={"hours": 0.5})
        refused = await client.post("/hub/api/workbench/server/lease", json={"hours": 1})
    assert fine.status_code == 200, fine.text
    assert refused.status_code == 409
    assert "your quota is 2: ask for at most 0." in refused.json()["message"]


async def test_a_lowered_quota_stops_nothing_and_is_shown(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 2})
    await put_quota(hub_env, "/default", max_gpus=1)
    _, view = await request_quotas(hub_env, "alice", "GET", "/users/alice/effective")
    assert view["over_quota"] == ["2 GPUs held or waited for, 1 allowed"]
    assert view["refused_now"][0].startswith("You asked for 1 GPU and hold or wait for 2, but")
    assert hub_env.user("alice").spawner.ready
    assert (await start(hub_env, "bob", {"gpus": 2}))[0] == 409


async def test_the_form_offers_what_the_quota_allows(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        make_group(hub_env, "vision", "alice", "bob")
        await start(hub_env, "bob", {"gpus": 1})
        await put_quota(
            hub_env, "/groups/vision", total_gpus=2, max_lease_hours=3, releases=["v2.7"]
        )
        page = parse((await browser.get("/hub/spawn")).text)
    reasons = [small.text for small in page.select(".wb-choice small")]
    assert "group vision has 1 of its 2" in reasons
    assert [option["value"] for option in page.select("#release option")] == ["v2.7"]
    assert one(page, "[name=hours]")["max"] == "3"


# --- who leaves


async def test_a_deleted_group_leaves_no_row(hub_env: HubEnvironment) -> None:
    make_group(hub_env, "vision", "alice")
    await put_quota(hub_env, "/groups/vision", max_gpus=1)
    async with hub_env.client("alice") as client:
        refused = await client.delete("/hub/api/groups/vision")
    assert refused.status_code == 403
    assert group("vision") in hub_env.ledger.quota_rows()
    async with hub_env.client("root", is_admin=True) as client:
        gone = await client.delete("/hub/api/groups/vision")
    assert gone.status_code == 204
    assert hub_env.ledger.quota_rows() == {}
    entry = hub_env.ledger.trail(limit=1)[0].entry
    assert (entry.actor, entry.reason) == ("root", "group vision was deleted")


async def test_a_deleted_user_leaves_no_row_and_the_next_of_that_name_inherits_none(
    hub_env: HubEnvironment,
) -> None:
    hub_env.user("alice")
    await put_quota(hub_env, "/users/alice", max_gpus=0)
    async with hub_env.client("root", is_admin=True) as client:
        assert (await client.delete("/hub/api/users/alice")).status_code == 204
    assert hub_env.ledger.quota_rows() == {}
    assert (await start(hub_env, "alice", {"gpus": 1}))[0] == 201


async def test_who_left_while_no_hub_ran_leaves_no_row_either(hub_env: HubEnvironment) -> None:
    make_group(hub_env, "vision")
    hub_env.user("alice")
    await put_quota(hub_env, "/groups/vision", max_gpus=1)
    await put_quota(hub_env, "/users/alice", max_gpus=1)
    ghost = {
        group("chess"): QuotaRow(max_gpus=9),
        Subject(SubjectKind.USER, "0 then", "eve"): QuotaRow(1),
    }
    hub_env.ledger.set_quotas(ghost, by="root", reason=None, now=1.0)
    await hub_env.close_hub()
    await hub_env.open_hub()
    await eventually(lambda: len(hub_env.ledger.quota_rows()) == 2, "the others are gone")
    assert group("vision") in hub_env.ledger.quota_rows()


async def test_a_renamed_user_keeps_their_row(hub_env: HubEnvironment) -> None:
    hub_env.user("alice")
    await put_quota(hub_env, "/users/alice", max_gpus=1)
    async with hub_env.client("root", is_admin=True) as client:
        renamed = await client.patch("/hub/api/users/alice", json={"name": "alicia"})
        assert renamed.status_code == 200, renamed.text
    _, rows = await request_quotas(hub_env, "root", "GET")
    assert rows["quotas"]["users"] == {"alicia": {"max_gpus": 1}}


# --- rows over REST


async def test_rows_are_set_read_and_deleted(hub_env: HubEnvironment) -> None:
    make_group(hub_env, "vision team/ü")
    hub_env.user("alice")
    address = "/groups/vision%20team%2F%C3%BC"
    row = {"max_gpus": 2, "gpu_hours": 10.0, "window_days": 7, "releases": ["v2.7"]}
    assert await request_quotas(hub_env, "root", "PUT", address, {**row, "reason": "a paper"}) == (
        200,
        row,
    )
    await put_quota(hub_env, "/default", max_gpus=1, total_gpus=None)
    await put_quota(hub_env, "/users/alice", priority=-3)
    assert await request_quotas(hub_env, "root", "GET", address) == (200, row)
    assert await request_quotas(hub_env, "root", "GET") == (
        200,
        {
            "quotas": {
                "default": {"max_gpus": 1},
                "groups": {"vision team/ü": row},
                "users": {"alice": {"priority": -3}},
            }
        },
    )
    assert await request_quotas(hub_env, "root", "DELETE", address + "?reason=over") == (204, None)
    assert await request_quotas(hub_env, "root", "GET", address) == (200, {})
    told = [w.entry for w in hub_env.ledger.trail()]
    assert [(e.actor, e.subject, e.reason) for e in told] == [
        ("root", "group vision team/ü", "over"),
        ("root", "user alice", None),
        ("root", "default", None),
        ("root", "group vision team/ü", "a paper"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (
            "/groups/chess",
            {"max_gpus": 1},
            404,
            "There is no group 'chess': add it in Admin first.",
        ),
        ("/users/eve", {"max_gpus": 1}, 404, "There is no user 'eve': add them in Admin first."),
        (
            "/default",
            {"max_gpus": "1"},
            400,
            "max_gpus must be a whole number from 0 to 1024, or null.",
        ),
        ("/default", {"gpus": 1}, 400, "'gpus' is not a field of a quota"),
        ("/default", {"max_gpus": 1, "reason": 7}, 400, "The reason must be one line"),
        ("/default", {"max_gpus": 1, "reason": "x" * 501}, 400, "The reason must be one line"),
        ("/default", [1], 400, "The body must be a JSON object."),
    ],
)
async def test_what_cannot_be_is_refused_in_one_sentence(
    hub_env: HubEnvironment, path: str, body: Any, status: int, said: str
) -> None:
    answered, message = await request_quotas(hub_env, "root", "PUT", path, body)
    assert (answered, message[: len(said)]) == (status, said)
    assert hub_env.ledger.quota_rows() == {}


# --- who may what


async def test_everyone_sees_what_concerns_them_and_sets_nothing(hub_env: HubEnvironment) -> None:
    make_group(hub_env, "vision", "alice", "bob")
    for path in ("/default", "/groups/vision", "/users/alice", "/users/bob"):
        hub_env.user(path.rpartition("/")[2])
        await put_quota(hub_env, path, max_gpus=1)
    _, seen = await request_quotas(hub_env, "alice", "GET")
    assert seen["quotas"] == {
        "default": {"max_gpus": 1},
        "groups": {},
        "users": {"alice": {"max_gpus": 1}},
    }
    assert (await request_quotas(hub_env, "alice", "GET", "/users/alice/effective"))[0] == 200
    for path in ("/users/bob", "/users/bob/effective", "/groups/vision", "/users/nobody/effective"):
        assert (await request_quotas(hub_env, "alice", "GET", path))[0] == 403, path
    for method, path in (("PUT", "/users/alice"), ("DELETE", "/default"), ("POST", "")):
        assert (await request_quotas(hub_env, "alice", method, path, {}))[0] == 403, (method, path)


async def test_a_group_s_admin_sees_their_group_and_its_members(hub_env: HubEnvironment) -> None:
    make_group(hub_env, "vision", "alice")
    make_group(hub_env, "audio", "carol")
    for path in ("/groups/vision", "/groups/audio", "/users/alice", "/users/carol"):
        await put_quota(hub_env, path, max_gpus=1)
    give_scopes(hub_env, hub_env.user("gina").orm_user, "custom:workbench:read:quotas!group=vision")
    _, seen = await request_quotas(hub_env, "gina", "GET")
    assert seen["quotas"] == {
        "default": {},
        "groups": {"vision": {"max_gpus": 1}},
        "users": {"alice": {"max_gpus": 1}},
    }
    assert (await request_quotas(hub_env, "gina", "GET", "/users/alice/effective"))[0] == 200
    assert (await request_quotas(hub_env, "gina", "GET", "/users/carol/effective"))[0] == 403
    assert (await request_quotas(hub_env, "gina", "PUT", "/groups/vision", {"max_gpus": 2}))[
        0
    ] == 403


async def test_a_stranger_is_answered_403(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as stranger:
        for method, path in (
            ("GET", ""),
            ("POST", ""),
            ("GET", "/default"),
            ("PUT", "/users/alice"),
            ("DELETE", "/groups/vision"),
            ("GET", "/users/alice/effective"),
        ):
            assert (await stranger.request(method, QUOTAS + path)).status_code == 403
        assert (await stranger.get("/hub/quotas")).status_code == 302


async def test_a_service_sets_quotas_with_the_scope_alone(hub_env: HubEnvironment) -> None:
    async with make_service(hub_env, "dashboard", "custom:workbench:read:queue") as client:
        assert (await client.get(QUOTAS)).status_code == 403
    async with make_service(hub_env, "billing", "custom:workbench:quotas") as client:
        done = await client.put(f"{QUOTAS}/default", json={"max_gpus": 1})
        assert done.status_code == 200, done.text
        assert (await client.get(QUOTAS)).json()["quotas"]["default"] == {"max_gpus": 1}
    assert hub_env.ledger.trail(limit=1)[0].entry.actor == "service billing"


async def test_a_ledger_that_does_not_answer_is_a_503(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Unknown("The ledger cannot be reached: it is locked.")

    hub_env.user("alice")
    for name in ("quota_rows", "set_quotas", "entitlement"):
        monkeypatch.setattr(hub_env.ledger, name, fail)
    for method, path in (("GET", ""), ("PUT", "/default"), ("GET", "/users/alice/effective")):
        status, message = await request_quotas(
            hub_env, "root", method, path, {} if method == "PUT" else None
        )
        assert (status, message) == (
            503,
            "The ledger cannot be reached: it is locked; try again in a moment.",
        )


# --- the page


async def test_the_page_shows_a_researcher_their_own_quota_alone(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        make_group(hub_env, "vision", "alice")
        await put_quota(hub_env, "/groups/vision", max_gpus=2, reason="a paper")
        page = parse((await browser.get("/hub/quotas")).text)
        other = parse((await browser.get("/hub/quotas?user=root")).text)
    explained = {
        name.text: value.text
        for name, value in zip(
            page.select("#wb-effective dt"), page.select("#wb-effective dd"), strict=True
        )
    }
    assert explained["2 GPUs at once"] == "from group vision"
    assert page.select("form[data-path], #wb-add, #wb-user") == []
    assert [a.text for a in page.select(".nav-link") if "uotas" in a["href"]] == ["Quotas"]
    assert one(other, "[role=status]").text == "You cannot see the quota of 'root'."


async def test_the_page_lets_an_admin_open_any_user_and_edit_rows(
    hub_env: HubEnvironment,
) -> None:
    make_group(hub_env, "vision", "alice")
    await put_quota(hub_env, "/groups/vision", max_gpus=2, total_gpus=4)
    async with admin(hub_env) as browser:
        page = parse((await browser.get("/hub/quotas?user=alice")).text)
        nobody = parse((await browser.get("/hub/quotas?user=nobody")).text)
    assert one(page, "#wb-effective h2").text.strip() == "Quota of alice"
    forms = {form["data-path"]: form for form in page.select("form[data-path]")}
    assert list(forms) == ["default", "groups/vision"]
    assert one(forms["groups/vision"], "[name=total_gpus]")["value"] == "4"
    assert forms["default"].select_one("[name=total_gpus]") is None
    assert one(nobody, "[role=status]").text == "There is no user 'nobody'."
