"""GPU-hours on the page, as CSV and over REST: each viewer sees what their scopes allow."""

import asyncio
import csv
import io
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from spawner.hub.handlers import scopes
from spawner.hub.views.usage import (
    CHART_HEIGHT,
    UsageQuery,
    UsageQueryError,
    UsageView,
    parse_query,
)
from spawner.policy.usage import GroupBy, UsageSpan, UsageTotal
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import attribute, one, parse
from tests.hub.people import give_scopes
from tests.hub.servers import start
from tests.hub.usage import two_people_compute, work

USAGE = "/hub/api/workbench/usage"
HOUR = 3600.0
TODAY = datetime(2026, 11, 23, tzinfo=UTC).date()


async def request_usage(client: httpx.AsyncClient, **question: str) -> dict[str, Any]:
    answer = await client.get(USAGE, params=question)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_hours_held_and_used_by_everything(hub_env: HubEnvironment) -> None:
    await two_people_compute(hub_env)
    async with hub_env.client("admin", is_admin=True) as client:
        by_user = await request_usage(client, by="user")
        by_day = await request_usage(client, by="day")
        by_gpu = await request_usage(client, by="gpu")
        by_group = await request_usage(client, by="group")
        by_release = await request_usage(client, by="release")
    alice, bob = by_user["rows"]
    assert (alice["label"], bob["label"]) == ("alice", "bob")
    assert alice["held_gpu_hours"] == pytest.approx(2 * 600 / HOUR, abs=0.02)
    assert alice["used_gpu_hours"] == pytest.approx(300 / HOUR, abs=0.01)
    assert bob["held_gpu_hours"] == pytest.approx(300 / HOUR, abs=0.02)
    assert bob["unmeasured_gpu_hours"] == pytest.approx(300 / HOUR, abs=0.02)
    held = by_user["sum"]["held_gpu_hours"]
    for answer in (by_day, by_gpu, by_release):
        assert sum(row["held_gpu_hours"] for row in answer["rows"]) == pytest.approx(held, abs=1e-3)
    assert {row["label"] for row in by_gpu["rows"]} == {"GPU 0", "GPU 1"}
    assert [row["label"] for row in by_group["rows"]] == ["vision"]
    assert {row["label"] for row in by_release["rows"]} == {"v2.7"}


async def test_everyone_sees_their_own_a_group_admin_the_groups_and_an_admin_all(
    hub_env: HubEnvironment,
) -> None:
    await two_people_compute(hub_env)
    lead = hub_env.user("lead")
    give_scopes(hub_env, lead.orm_user, f"{scopes.READ_USAGE}!group=vision")
    seen = {}
    for name, is_admin in (("alice", False), ("bob", False), ("lead", False), ("admin", True)):
        async with hub_env.client(name, is_admin=is_admin) as client:
            seen[name] = [row["label"] for row in (await request_usage(client))["rows"]]
    assert seen == {
        "alice": ["alice"],
        "bob": ["bob"],
        "lead": ["alice"],
        "admin": ["alice", "bob"],
    }


async def test_one_question_is_answered_after_the_other_and_reads_what_its_asker_may_see(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_people_compute(hub_env)
    now_asked, most_at_once = 0, 0
    seen: list[str] = []
    read = hub_env.ledger.spans

    def note(**asked: Any) -> tuple[UsageSpan, ...]:
        nonlocal now_asked, most_at_once
        now_asked += 1
        most_at_once = max(most_at_once, now_asked)
        time.sleep(0.1)
        spans = read(**asked)
        seen.extend(span.user for span in spans)
        now_asked -= 1
        return spans

    monkeypatch.setattr(hub_env.ledger, "spans", note)
    async with hub_env.client("alice") as client:
        await asyncio.gather(*(request_usage(client) for _ in range(3)))
    assert most_at_once == 1
    assert set(seen) == {"alice"}


async def test_a_user_made_anew_has_no_hours_of_the_one_before(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    hub_env.skip(600)
    async with hub_env.client("admin", is_admin=True) as client:
        assert (await client.delete("/hub/api/users/alice")).status_code == 204
        assert (await client.post("/hub/api/users/alice")).status_code == 201
    async with hub_env.client("alice") as client:
        assert (await request_usage(client))["rows"] == []


async def test_an_anonymous_viewer_sees_nothing(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        assert (await browser.get(USAGE)).status_code == 403
        assert (await browser.get("/hub/usage")).status_code == 302
        assert (await browser.get("/hub/usage.csv")).status_code == 302


@pytest.mark.parametrize(
    "question",
    [
        {"by": "moon"},
        {"from": "yesterday"},
        {"from": "2026-1-1"},
        {"from": "2026-11-24", "to": "2026-11-23"},
        {"from": "0001-01-01", "to": "2026-11-23"},
        {"to": "9999-12-31"},
        {"since": "2026-11-23"},
        {"by": ["user", "day"]},
        {"to": "\uff12\uff10\uff12\uff16-11-23"},
    ],
)
async def test_what_is_not_understood_is_one_sentence(
    hub_env: HubEnvironment, question: Any
) -> None:
    async with hub_env.client("alice") as client:
        answer = await client.get(USAGE, params=question)
        page = await client.get("/hub/usage", params=question)
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"].endswith(".")
    assert page.status_code == 302, "a page asks for a login"


def test_a_question_without_words_is_the_last_week() -> None:
    question = parse_query({}, TODAY)
    assert (question.first, question.last) == (TODAY - timedelta(days=6), TODAY)
    with pytest.raises(UsageQueryError):
        parse_query({"by": [b"\xff"]}, TODAY)


@pytest.mark.parametrize(
    ("most", "top"),
    [
        (0.0, 0),
        (0.004, 1),
        (1.0, 1),
        (1.2, 2),
        (5.0, 5),
        (5.1, 10),
        (10.0, 10),
        (72.0, 100),
        (192.0, 200),
    ],
)
def test_the_chart_ends_at_a_round_number_of_hours(most: float, top: int) -> None:
    day = UsageTotal("2026-11-23", "2026-11-23", most, most / 2, 0.0)
    view = UsageView(UsageQuery(TODAY, TODAY, GroupBy.USER), (), day, (day,), {})
    assert view.top_hours == top
    (bar,) = view.bars()
    assert bar.held_height == pytest.approx(CHART_HEIGHT * most / max(top, 1), abs=0.01)
    assert bar.used_height == pytest.approx(bar.held_height / 2, abs=0.01)


async def test_the_page_shows_table_chart_and_csv(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        empty = parse((await browser.get("/hub/usage")).text)
        assert empty.select_one("#wb-nothing")
        await start(hub_env, "alice", {"gpus": 1})
        await work(hub_env, 600, 50)
        page = parse((await browser.get("/hub/usage?by=day")).text)
        assert len(page.select("svg .wb-bar-held")) == 7
        cells = [cell.text.split() for cell in page.select(".wb-hours-table td")]
        assert cells[1:] == [["0.1"], ["50", "%"]]
        sheet = await browser.get("/hub" + attribute(one(page, "#wb-csv"), "href").split("/hub")[1])
        wrong = await browser.get("/hub/usage?by=moon")
    rows = list(csv.reader(io.StringIO(sheet.text)))
    assert rows[0][:3] == ["day", "key", "held_gpu_hours"]
    assert float(rows[1][3]) == pytest.approx(300 / HOUR, abs=0.01)
    assert wrong.status_code == 400
    assert "Usage cannot be summed by" in wrong.text
