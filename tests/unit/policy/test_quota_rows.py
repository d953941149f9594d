"""Whose row of the quotas counts: one's own before the groups', the most generous of those, then the default."""

import re
from dataclasses import fields, replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from spawner.model import Cap, Quota, QuotaRowError
from spawner.policy.quota_rows import (
    DEFAULT,
    QuotaRow,
    Subject,
    SubjectKind,
    explain_quota,
    group,
    parse_quota_row,
    quota_fields,
    resolve_quota,
)
from testing.paths import ROOT

ALICE = Subject(SubjectKind.USER, "7 2026", "alice")
SETTINGS = Quota(max_gpus=1, max_lease_hours=24.0)
RELEASES = ("v2.7", "v2.8", "v2.9")
GROUPS = ("audio", "robots", "vision")

counts = st.none() | st.integers(0, 8)


@st.composite
def limits(draw: st.DrawFn) -> QuotaRow:
    hours = draw(st.none() | st.integers(0, 100))
    return QuotaRow(
        max_gpus=draw(counts),
        gpu_hours=hours,
        window_days=None if hours is None else draw(st.integers(1, 30)),
        max_lease_hours=draw(st.none() | st.integers(1, 48)),
        priority=draw(counts),
        total_gpus=draw(counts),
        releases=draw(st.none() | st.sets(st.sampled_from(RELEASES), min_size=1).map(tuple)),
    )


rows = st.fixed_dictionaries(
    {group(name): limits() for name in GROUPS}, optional={DEFAULT: limits(), ALICE: limits()}
)
groups = st.sets(st.sampled_from(GROUPS)).map(sorted)
simple = st.sampled_from(["max_gpus", "max_lease_hours", "priority"])


@given(rows, groups, simple)
def test_each_field_is_that_of_who_comes_first(
    rows: dict[Subject, QuotaRow], groups: list[str], name: str
) -> None:
    effective = resolve_quota(rows, ALICE, groups, SETTINGS)
    own = getattr(rows.get(ALICE, QuotaRow()), name)
    of_groups = [getattr(rows.get(group(one), QuotaRow()), name) for one in groups]
    said = [value for value in of_groups if value is not None]
    of_default = getattr(rows.get(DEFAULT, QuotaRow()), name)
    expected = (
        own
        if own is not None
        else max(said)
        if said
        else of_default
        if of_default is not None
        else getattr(SETTINGS, name)
    )
    assert getattr(effective.quota, name) == expected
    source = effective.sources[name]
    assert expected == getattr(SETTINGS if source is None else rows[source], name)


@given(rows, groups)
def test_hours_and_their_window_are_of_one_row_and_no_group_gives_more(
    rows: dict[Subject, QuotaRow], groups: list[str]
) -> None:
    quota = resolve_quota(rows, ALICE, groups, SETTINGS).quota
    pair = (quota.gpu_hours, quota.window_days)
    written = [(row.gpu_hours, row.window_days) for row in rows.values()]
    assert pair in [*written, (SETTINGS.gpu_hours, SETTINGS.window_days)]
    if rows.get(ALICE, QuotaRow()).gpu_hours is not None:
        assert pair == (rows[ALICE].gpu_hours, rows[ALICE].window_days)
        return
    for one in groups:
        row = rows.get(group(one), QuotaRow())
        if row.gpu_hours is not None:
            assert quota.gpu_hours is not None
            assert row.window_days is not None
            assert quota.window_days is not None
            assert row.gpu_hours / row.window_days <= quota.gpu_hours / quota.window_days


@given(rows, groups)
def test_the_releases_of_all_groups_are_allowed(
    rows: dict[Subject, QuotaRow], groups: list[str]
) -> None:
    allowed = resolve_quota(rows, ALICE, groups, SETTINGS).quota.releases
    own = rows.get(ALICE, QuotaRow()).releases
    of_groups = {n for one in groups for n in rows.get(group(one), QuotaRow()).releases or ()}
    if own is not None:
        assert allowed == own
    elif of_groups:
        assert set(allowed or ()) == of_groups
    else:
        assert allowed == rows.get(DEFAULT, QuotaRow()).releases


@given(rows, groups)
def test_a_total_binds_each_member_whatever_their_own_row_states(
    rows: dict[Subject, QuotaRow], groups: list[str]
) -> None:
    caps = resolve_quota(rows, ALICE, groups, SETTINGS).quota.caps
    assert caps == tuple(
        Cap(one, total)
        for one in groups
        if (total := rows.get(group(one), QuotaRow()).total_gpus) is not None
    )


@given(rows, groups)
def test_the_row_of_another_user_changes_nothing(
    rows: dict[Subject, QuotaRow], groups: list[str]
) -> None:
    stranger = replace(ALICE, key="8 2027")
    others = {stranger: QuotaRow(max_gpus=99, priority=99), group("chess"): QuotaRow(max_gpus=98)}
    before = resolve_quota(rows, ALICE, groups, SETTINGS)
    assert resolve_quota({**rows, **others}, ALICE, groups, SETTINGS) == before


def test_every_field_is_explained() -> None:
    rows = {
        group("vision"): QuotaRow(max_gpus=2, total_gpus=4, releases=("v2.7",)),
        group("audio"): QuotaRow(max_gpus=1, releases=("v2.8",)),
        ALICE: QuotaRow(priority=3),
        DEFAULT: QuotaRow(gpu_hours=100, window_days=7),
    }
    own = ("audio", "vision")
    told = explain_quota(resolve_quota(rows, ALICE, own, SETTINGS), rows, ALICE, own)
    assert [(one.what, one.why) for one in told] == [
        ("2 GPUs at once", "from group vision; group audio sets 1"),
        ("100 GPU-hours in any 7 days", "from the default row"),
        ("24 hours at a time", "from the settings"),
        ("priority 3 in the queue", "from the user's own row"),
        ("releases v2.8, v2.7", "from group audio; group vision sets v2.7"),
        ("4 GPUs among all members of group vision", "from group vision, which binds each member"),
    ]


def test_who_has_no_row_sees_it() -> None:
    told = explain_quota(resolve_quota({}, ALICE, (), Quota()), {}, ALICE, ())
    assert [one.what for one in told] == [
        "any number of GPUs",
        "any number of GPU-hours",
        "24 hours at a time",
        "normal priority in the queue",
        "every release",
    ]
    assert {one.why for one in told} == {"from the settings"}


@given(limits())
def test_a_row_is_read_back_as_it_was_written(row: QuotaRow) -> None:
    assert parse_quota_row(row.as_json(), SubjectKind.GROUP, RELEASES) == row


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (None, "must be an object"),
        ([], "must be an object"),
        ({"gpus": 1}, "'gpus' is not a field of a quota: choose one of max_gpus"),
        ({"max_gpus": True}, "max_gpus must be a whole number from 0 to 1024"),
        ({"max_gpus": 1.5}, "max_gpus must be a whole number"),
        ({"max_gpus": -1}, "max_gpus must be"),
        ({"max_gpus": "2"}, "max_gpus must be"),
        ({"max_lease_hours": float("nan")}, "max_lease_hours must be a number from 0.01"),
        ({"max_lease_hours": 1e300}, "max_lease_hours must be"),
        ({"gpu_hours": 5}, "gpu_hours and window_days need each other"),
        ({"window_days": 5}, "gpu_hours and window_days need each other"),
        ({"total_gpus": 5}, "total_gpus limits all members of a group"),
        ({"releases": []}, "releases must be a list"),
        ({"releases": "v2.7"}, "releases must be a list"),
        ({"releases": ["v2.7", "v2.7"]}, "releases must be a list of one or more different"),
        ({"releases": ["v1"]}, "There is no release 'v1': choose one of v2.7, v2.8, v2.9."),
    ],
)
def test_what_is_no_row_is_refused_in_one_sentence(raw: object, sentence: str) -> None:
    with pytest.raises(QuotaRowError) as caught:
        parse_quota_row(raw, SubjectKind.USER, RELEASES)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")


def test_what_is_null_is_left_out() -> None:
    everything = {field.name: None for field in fields(QuotaRow)}
    assert parse_quota_row(everything, SubjectKind.USER, RELEASES) == QuotaRow()


def test_the_docs_have_every_field_in_its_own_words() -> None:
    text = (ROOT / "docs/quotas.md").read_text().partition("## Precedence")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(one.name, one.bounds) for one in quota_fields()]
