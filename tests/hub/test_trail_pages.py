"""The audit trail through the hub: searched, page by page, whole as a file, and by admins alone."""

import csv
import io
import json
from typing import Any

import httpx
import pytest

from spawner.hub.views.trail import ACTION_WORDS
from spawner.ledger.database import transaction
from spawner.ledger.trail import CHUNK, TrailAction, TrailEntry, record
from testing.eventually import eventually
from tests.hub.accounts import admin, join
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import attribute, one, parse
from tests.hub.people import give_scopes
from tests.hub.quotas import put_quota
from tests.hub.servers import start, stop

TRAIL = "/hub/api/workbench/trail"


def write(hub_env: HubEnvironment, *entries: TrailEntry) -> None:
    with transaction(hub_env.ledger._engine) as connection:
        for entry in entries:
            record(connection, entry)


def entry(number: int, reason: str | None = None) -> TrailEntry:
    return TrailEntry(
        float(number),
        "root",
        TrailAction.GPU_RETURNED,
        f"GPU-{number}",
        None,
        {"n": number},
        reason,
    )


async def request_trail(
    hub_env: HubEnvironment, query: str = "", who: str = "root"
) -> httpx.Response:
    async with hub_env.client(who, is_admin=who == "root") as client:
        return await client.get(TRAIL + query)


async def read(hub_env: HubEnvironment, query: str = "") -> dict[str, Any]:
    answer = await request_trail(hub_env, query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_lease_and_a_quota_are_found_with_who_and_why(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await put_quota(hub_env, "/default", max_gpus=1, reason="a paper")
    await stop(hub_env, "alice")
    entries = (await read(hub_env))["entries"]
    assert [(e["actor"], e["action"], e["reason"]) for e in entries] == [
        ("alice", "lease.ended", "user"),
        ("root", "quota.changed", "a paper"),
        ("(hub)", "lease.granted", None),
    ]
    assert entries[1]["before"] is None
    assert entries[1]["after"] == {"max_gpus": 1}
    (found,) = (await read(hub_env, "?action=quota.changed&text=PAPER&actor=root"))["entries"]
    assert found == entries[1]


async def test_pages_follow_each_other(hub_env: HubEnvironment) -> None:
    await eventually(lambda: hub_env.controller.is_ready, "the lease clock goes")
    write(hub_env, *map(entry, range(120)))
    numbers, query = [], ""
    for _ in range(3):
        page = await read(hub_env, query)
        numbers += [e["after"]["n"] for e in page["entries"]]
        query = f"?before={page['next']}"
    assert numbers == list(reversed(range(120)))
    assert page["next"] is None


async def test_times_are_those_of_people_s_clocks(hub_env: HubEnvironment) -> None:
    await put_quota(hub_env, "/default", max_gpus=1)
    (found,) = (await read(hub_env))["entries"]
    at = found["at"]
    assert len((await read(hub_env, f"?since={at[:-1]}"))["entries"]) == 1
    assert (await read(hub_env, "?since=2999-01-01T00:00Z"))["entries"] == []
    assert (await read(hub_env, f"?until={at[:4]}-01-01"))["entries"] == []


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
async def test_a_file_has_every_entry(hub_env: HubEnvironment, kind: str) -> None:
    await eventually(lambda: hub_env.controller.is_ready, "the lease clock goes")
    write(hub_env, *map(entry, range(2 * CHUNK)), entry(2 * CHUNK, '=1+1, "ü"'))
    answer = await request_trail(hub_env, f"?format={kind}")
    assert answer.headers["content-disposition"] == f'attachment; filename="trail.{kind}"'
    if kind == "csv":
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert rows[0]["reason"] == '\'=1+1, "ü"', "a spreadsheet would compute it"
        numbers = [json.loads(row["after"])["n"] for row in rows]
    else:
        numbers = [json.loads(line)["after"]["n"] for line in answer.text.splitlines()]
    assert numbers == list(reversed(range(2 * CHUNK + 1)))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?action=x", "There is no action 'x': lease.granted"),
        ("?since=yesterday", "'yesterday' is no time"),
        ("?until=99999-01-01", "'99999-01-01' is no time"),
        ("?before=x", "'x' is no id of an entry"),
        ("?before=99999999999999999999", "is no id of an entry"),
        ("?before=000000000000999999999999", "is no id of an entry"),
        ("?format=xml", "There is no format 'xml': json, csv, jsonl."),
    ],
)
async def test_what_cannot_be_searched_is_one_sentence(
    hub_env: HubEnvironment, query: str, said: str
) -> None:
    answer = await request_trail(hub_env, query)
    assert answer.status_code == 400
    assert said in answer.json()["message"]


async def test_only_admins_and_who_has_the_scope_see_it(hub_env: HubEnvironment) -> None:
    assert (await request_trail(hub_env, who="alice")).status_code == 403
    give_scopes(hub_env, hub_env.user("rita").orm_user, "custom:workbench:read:trail")
    assert (await request_trail(hub_env, who="rita")).status_code == 200
    async with hub_env.browser() as stranger:
        assert (await stranger.get(TRAIL)).status_code == 403
        assert (await stranger.get("/hub/audit")).status_code == 302
        await join(hub_env, stranger, "carol")
        page = await stranger.get("/hub/audit")
        assert page.status_code == 403
        assert "Your account may not see this page." in page.text
        assert "custom:workbench" not in page.text
        assert (await stranger.get("/hub/audit/trail.csv")).status_code == 403


async def test_the_page_shows_searches_and_hands_out_files(hub_env: HubEnvironment) -> None:
    await eventually(lambda: hub_env.controller.is_ready, "the lease clock goes")
    write(hub_env, *map(entry, range(60)), entry(60, "<b>repaired</b>"))
    async with admin(hub_env) as browser:
        page = parse((await browser.get("/hub/audit")).text)
        older = await browser.get(attribute(one(page, "[rel=next]"), "href"))
        found = parse((await browser.get("/hub/audit?text=REPAIRED")).text)
        nothing = await browser.get("/hub/audit?text=nowhere")
        wrong = await browser.get("/hub/audit?since=yesterday")
        file = await browser.get(
            next(attribute(a, "href") for a in found.select("a") if a.text == "JSON lines")
        )
    assert len(page.select(".wb-trail > li")) == 50
    assert len(parse(older.text).select(".wb-trail > li")) == 11
    (row,) = found.select(".wb-trail > li")
    assert "· <b>repaired</b>" in row.text
    assert "No entry matches this search." in nothing.text
    assert "&#39;yesterday&#39; is no time" in wrong.text
    assert [json.loads(line)["after"] for line in file.text.splitlines()] == [{"n": 60}]


def test_every_action_has_words() -> None:
    assert set(ACTION_WORDS) == set(TrailAction)
