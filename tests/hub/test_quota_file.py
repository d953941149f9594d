"""A whole file of quotas over REST: shown first, then applied, and nothing but what was shown."""

from typing import Any

import pytest

from spawner.policy.quota_rows import DEFAULT, QuotaRow, group
from tests.hub.hub_env import HubEnvironment
from tests.hub.people import make_group
from tests.hub.quotas import put_quota, request_quotas

FILE = {"default": {"max_gpus": 1}, "groups": {"vision": {"total_gpus": 4}}, "users": {}}


async def test_a_file_is_shown_first_then_applied_then_changes_nothing(
    hub_env: HubEnvironment,
) -> None:
    make_group(hub_env, "vision")
    hub_env.user("alice")
    await put_quota(hub_env, "/users/alice", priority=1)
    changes = {
        "changes": [
            {"subject": "default", "before": None, "after": {"max_gpus": 1}},
            {"subject": "group vision", "before": None, "after": {"total_gpus": 4}},
            {"subject": "user alice", "before": {"priority": 1}, "after": None},
        ]
    }

    def ordered(said: tuple[int, Any]) -> tuple[int, Any]:
        said[1]["changes"].sort(key=lambda change: change["subject"])
        return said

    assert ordered(await request_quotas(hub_env, "root", "POST", "?dry-run", {"quotas": FILE})) == (
        200,
        changes,
    )
    assert len(hub_env.ledger.quota_rows()) == 1
    assert ordered(await request_quotas(hub_env, "root", "POST", "", {"quotas": FILE})) == (
        200,
        changes,
    )
    assert set(hub_env.ledger.quota_rows()) == {DEFAULT, group("vision")}
    assert await request_quotas(hub_env, "root", "POST", "", {"quotas": FILE}) == (
        200,
        {"changes": []},
    )
    assert (await request_quotas(hub_env, "root", "GET"))[1]["quotas"] == FILE


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({"group": {}}, "'group' is no part of a quota file."),
        ({"users": []}, "'users' must be an object"),
        ({"users": {"eve": {}}}, "There is no user 'eve'"),
        (
            {"default": {"total_gpus": 1}},
            "The row of default is not valid: total_gpus limits all members of a group",
        ),
    ],
)
async def test_a_file_that_cannot_be_changes_nothing(
    hub_env: HubEnvironment, file: Any, said: str
) -> None:
    await put_quota(hub_env, "/default", max_gpus=1)
    status, message = await request_quotas(hub_env, "root", "POST", "", {"quotas": file})
    assert status in (400, 404)
    assert said in message
    assert hub_env.ledger.quota_rows() == {DEFAULT: QuotaRow(max_gpus=1)}


async def test_what_was_not_shown_is_not_done(hub_env: HubEnvironment) -> None:
    make_group(hub_env, "vision")
    _, shown = await request_quotas(hub_env, "root", "POST", "?dry-run", {"quotas": FILE})
    await put_quota(hub_env, "/groups/vision", priority=1)
    status, message = await request_quotas(hub_env, "root", "POST", "", {"quotas": FILE, **shown})
    assert (status, message) == (
        409,
        "The quotas have changed since the dry run: run it again.",
    )
    assert hub_env.ledger.quota_rows() == {group("vision"): QuotaRow(priority=1)}
    _, shown = await request_quotas(hub_env, "root", "POST", "?dry-run", {"quotas": FILE})
    assert await request_quotas(hub_env, "root", "POST", "", {"quotas": FILE, **shown}) == (
        200,
        shown,
    )
    assert (await request_quotas(hub_env, "root", "GET"))[1]["quotas"] == FILE


async def test_changes_that_no_one_can_have_been_shown_are_refused(hub_env: HubEnvironment) -> None:
    for path in ("", "?dry-run"):
        answer = await request_quotas(
            hub_env, "root", "POST", path, {"quotas": FILE, "changes": "all"}
        )
        assert answer == (400, "'changes' must be what a dry run answered.")
