"""The audit trail through the hub: searched, page by page, whole as a file, and by admins alone."""

import csv
import io
import json
from typing import Any

import httpx
import pytest
from bs4 import BeautifulSoup

from spawner.ledger.database import transaction
from spawner.ledger.trail import CHUNK, Action, Entry, record
from tests.hub.people import give_scopes
from tests.hub.test_quotas import put
from tests.hub.test_sign_up import admin, join
from tests.hub.test_spawn import start, stop
from tests.hub.town import Town, eventually

TRAIL = "/hub/api/workbench/trail"


def write(town: Town, *entries: Entry) -> None:
    with transaction(town.ledger._engine) as connection:
        for entry in entries:
            record(connection, entry)


def entry(number: int, reason: str | None = None) -> Entry:
    return Entry(
        float(number), "root", Action.GPU_RETURNED, f"GPU-{number}", None, {"n": number}, reason
    )


async def ask(town: Town, query: str = "", who: str = "root") -> httpx.Response:
    async with town.client(who, is_admin=who == "root") as client:
        return await client.get(TRAIL + query)


async def read(town: Town, query: str = "") -> dict[str, Any]:
    answer = await ask(town, query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_lease_and_a_quota_are_found_with_who_and_why(town: Town) -> None:
    await start(town, "alice", {"gpus": 1})
    await put(town, "/default", max_gpus=1, reason="a paper")
    await stop(town, "alice")
    entries = (await read(town))["entries"]
    assert [(e["actor"], e["action"], e["reason"]) for e in entries] == [
        ("alice", "lease.ended", "user"),
        ("root", "quota.changed", "a paper"),
        ("(hub)", "lease.granted", None),
    ]
    assert entries[1]["before"] is None
    assert entries[1]["after"] == {"max_gpus": 1}
    (found,) = (await read(town, "?action=quota.changed&text=PAPER&actor=root"))["entries"]
    assert found == entries[1]


async def test_pages_follow_each_other(town: Town) -> None:
    await eventually(lambda: town.controller.is_ready, "the lease clock goes")
    write(town, *map(entry, range(120)))
    numbers, query = [], ""
    for _ in range(3):
        page = await read(town, query)
        numbers += [e["after"]["n"] for e in page["entries"]]
        query = f"?before={page['next']}"
    assert numbers == list(reversed(range(120)))
    assert page["next"] is None


async def test_times_are_those_of_people_s_clocks(town: Town) -> None:
    await put(town, "/default", max_gpus=1)
    (found,) = (await read(town))["entries"]
    at = found["at"]
    assert len((await read(town, f"?since={at[:-1]}"))["entries"]) == 1
    assert (await read(town, "?since=2999-01-01T00:00Z"))["entries"] == []
    assert (await read(town, f"?until={at[:4]}-01-01"))["entries"] == []


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
async def test_a_file_has_every_entry(town: Town, kind: str) -> None:
    await eventually(lambda: town.controller.is_ready, "the lease clock goes")
    write(town, *map(entry, range(2 * CHUNK)), entry(2 * CHUNK, '=1+1, "ü"'))
    answer = await ask(town, f"?format={kind}")
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
async def test_what_cannot_be_searched_is_one_sentence(town: Town, query: str, said: str) -> None:
    answer = await ask(town, query)
    assert answer.status_code == 400
    assert said in answer.json()["message"]


async def test_only_admins_and_who_has_the_scope_see_it(town: Town) -> None:
    assert (await ask(town, who="alice")).status_code == 403
    give_scopes(town, town.user("rita").orm_user, "custom:workbench:read:trail")
    assert (await ask(town, who="rita")).status_code == 200
    async with town.browser() as stranger:
        assert (await stranger.get(TRAIL)).status_code == 403
        assert (await stranger.get("/hub/audit")).status_code == 302
        await join(town, stranger, "carol")
        assert (await stranger.get("/hub/audit")).status_code == 403
        assert (await stranger.get("/hub/audit/trail.csv")).status_code == 403


async def test_the_page_shows_searches_and_hands_out_files(town: Town) -> None:
    await eventually(lambda: town.controller.is_ready, "the lease clock goes")
    write(town, *map(entry, range(60)), entry(60, "<b>repaired</b>"))
    async with admin(town) as browser:
        page = BeautifulSoup((await browser.get("/hub/audit")).text, "html.parser")
        older = await browser.get(page.select_one("[rel=next]")["href"])
        found = BeautifulSoup((await browser.get("/hub/audit?text=REPAIRED")).text, "html.parser")
        nothing = await browser.get("/hub/audit?text=nowhere")
        wrong = await browser.get("/hub/audit?since=yesterday")
        file = await browser.get(
            next(a["href"] for a in found.select("a") if a.text == "JSON lines")
        )
    assert len(page.select(".wb-trail > li")) == 50
    assert len(BeautifulSoup(older.text, "html.parser").select(".wb-trail > li")) == 11
    (row,) = found.select(".wb-trail > li")
    assert "· <b>repaired</b>" in row.text
    assert "Nothing that agrees with this search." in nothing.text
    assert "&#39;yesterday&#39; is no time" in wrong.text
    assert [json.loads(line)["after"] for line in file.text.splitlines()] == [{"n": 60}]
