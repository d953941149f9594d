"""Quota rows in the ledger, on both databases: recorded in the trail, and counted within the claim."""

from dataclasses import replace

import pytest

from spawner.ledger import Ledger
from spawner.ledger.quotas import Change, Owner
from spawner.ledger.trail import TrailAction, TrailFilter
from spawner.model import Cap, Lease, Options, Quota, Reason, Refused, Request
from spawner.policy.quota_rows import DEFAULT, QuotaRow, Subject, group
from tests.unit.ledger_helpers import (
    ALICE,
    HOUR,
    advance,
    close,
    enqueue,
    grant,
    read,
    request_lease,
)

SETTINGS = Quota(max_lease_hours=8, priority=3)
DAY = 24 * HOUR
OWN = ALICE.subject


def put(ledger: Ledger, subject: Subject, limits: QuotaRow | None, now: float = 1.0) -> int:
    return len(ledger.set_quotas({subject: limits}, by="root", reason="because", now=now))


def wish(user: str, gpus: int, *groups: str, hours: float | None = None) -> Request:
    return Request(user, "", Options("v2.7", gpus, hours), user, groups)


def refused(answer: Lease | Refused) -> Refused:
    assert isinstance(answer, Refused), answer
    return answer


def test_a_row_is_what_it_was_set_to(ledger: Ledger) -> None:
    everything = QuotaRow(2, 10.5, 7, 3.5, -1, 4, ("v2.7", "v2.8"))
    assert put(ledger, group("vision"), everything) == 1
    assert put(ledger, DEFAULT, QuotaRow(max_gpus=1)) == 1
    assert put(ledger, OWN, QuotaRow(priority=0)) == 1
    assert ledger.quota_rows() == {
        DEFAULT: QuotaRow(max_gpus=1),
        group("vision"): everything,
        OWN: QuotaRow(priority=0),
    }
    assert [s.name for s in ledger.quota_rows()] == ["", "vision", "alice"]


def test_the_same_again_changes_and_reports_nothing(ledger: Ledger) -> None:
    assert put(ledger, OWN, QuotaRow(max_gpus=1)) == 1
    assert put(ledger, OWN, QuotaRow(max_gpus=1)) == 0
    assert put(ledger, group("vision"), None) == 0
    assert len(ledger.trail()) == 1


def test_a_row_that_states_nothing_is_none(ledger: Ledger) -> None:
    put(ledger, OWN, QuotaRow(max_gpus=1))
    assert put(ledger, OWN, QuotaRow()) == 1
    assert ledger.quota_rows() == {}


def test_every_change_is_reported(ledger: Ledger) -> None:
    put(ledger, OWN, QuotaRow(max_gpus=1), now=1.0)
    put(ledger, OWN, QuotaRow(max_gpus=2), now=2.0)
    put(ledger, OWN, None, now=3.0)
    told = [w.entry for w in reversed(ledger.trail(TrailFilter(action=TrailAction.QUOTA_CHANGED)))]
    assert [(e.at, e.before, e.after) for e in told] == [
        (1.0, None, {"max_gpus": 1}),
        (2.0, {"max_gpus": 1}, {"max_gpus": 2}),
        (3.0, {"max_gpus": 2}, None),
    ]
    assert {(e.actor, e.subject, e.reason) for e in told} == {("root", "user alice", "because")}


def test_a_whole_file_leaves_no_other_row(ledger: Ledger) -> None:
    put(ledger, OWN, QuotaRow(max_gpus=1))
    put(ledger, DEFAULT, QuotaRow(max_gpus=1))
    wanted = {DEFAULT: QuotaRow(max_gpus=1), group("vision"): QuotaRow(max_gpus=3)}
    changes = ledger.set_quotas(wanted, by="root", reason=None, now=2.0, whole=True)
    assert {str(change.subject) for change in changes} == {"user alice", "group vision"}
    assert ledger.quota_rows() == wanted
    assert ledger.set_quotas(wanted, by="root", reason=None, now=3.0, whole=True) == ()


def test_what_is_not_agreed_to_changes_and_reports_nothing(ledger: Ledger) -> None:
    put(ledger, OWN, QuotaRow(max_gpus=1))
    told: list[tuple[Change, ...]] = []

    def refuse(changes: tuple[Change, ...]) -> None:
        told.append(changes)
        raise PermissionError

    with pytest.raises(PermissionError):
        ledger.set_quotas(
            {DEFAULT: QuotaRow(max_gpus=2)},
            by="root",
            reason=None,
            now=2.0,
            whole=True,
            agree=refuse,
        )
    assert told == [
        (Change(OWN, QuotaRow(max_gpus=1), None), Change(DEFAULT, None, QuotaRow(max_gpus=2)))
    ]
    assert ledger.quota_rows() == {OWN: QuotaRow(max_gpus=1)}
    assert len(ledger.trail()) == 1


# --- within the claim


def test_the_claim_counts_by_the_rows(ledger: Ledger) -> None:
    put(ledger, group("vision"), QuotaRow(max_gpus=1, priority=7, max_lease_hours=2.0))
    assert refused(request_lease(ledger, wish("alice", 2, "vision"))).reason is Reason.OVER_QUOTA
    lease = request_lease(ledger, wish("alice", 1, "vision"))
    assert isinstance(lease, Lease)
    assert (lease.priority, lease.hours, lease.groups) == (7, 2.0, ("vision",))
    assert isinstance(request_lease(ledger, wish("bob", 2)), Lease), (
        "who is in no group has the settings'"
    )


def test_a_user_of_the_same_name_inherits_no_row(ledger: Ledger) -> None:
    put(ledger, OWN, QuotaRow(max_gpus=0))
    later = replace(wish("alice", 1), identity="another alice")
    assert refused(request_lease(ledger, wish("alice", 1))).reason is Reason.OVER_QUOTA
    assert isinstance(request_lease(ledger, later), Lease)


def test_a_total_counts_what_all_members_hold_and_wait_for(ledger: Ledger) -> None:
    put(ledger, group("vision"), QuotaRow(total_gpus=2))
    for user in ("alice", "bob"):
        assert isinstance(request_lease(ledger, wish(user, 1, "vision")), Lease)
    advance(ledger)
    assert refused(request_lease(ledger, wish("carol", 1, "vision"))).reason is Reason.GROUP_FULL
    assert isinstance(request_lease(ledger, wish("carol", 1, "audio")), Lease)


def test_an_own_row_does_not_lift_the_total_of_a_group(ledger: Ledger) -> None:
    put(ledger, group("vision"), QuotaRow(total_gpus=1))
    put(ledger, OWN, QuotaRow(max_gpus=8))
    assert refused(request_lease(ledger, wish("alice", 2, "vision"))).reason is Reason.GROUP_FULL


def test_the_hours_of_closed_leases_count_until_they_leave_the_window(ledger: Ledger) -> None:
    put(ledger, OWN, QuotaRow(gpu_hours=8, window_days=1))
    close(ledger, grant(ledger, "alice", 2, now=HOUR), now=4 * HOUR)
    asked = wish("alice", 1, hours=3.0)
    said = refused(request_lease(ledger, asked, now=5 * HOUR))
    assert said.reason is Reason.OVER_GPU_HOURS
    assert "held 6 GPU-hours in the last day, but your quota is 8" in said.message
    assert isinstance(request_lease(ledger, asked, now=26 * HOUR), Lease), (
        "an hour of it has left the window"
    )


def test_the_hours_of_who_had_the_name_before_are_not_theirs(ledger: Ledger) -> None:
    put(ledger, DEFAULT, QuotaRow(gpu_hours=8, window_days=1))
    close(ledger, grant(ledger, "alice", 2, now=HOUR), now=4 * HOUR)
    ledger.get_or_create_account("alice", "another alice")
    later = replace(wish("alice", 1, hours=8.0), identity="another alice")
    assert isinstance(request_lease(ledger, later, now=5 * HOUR), Lease)


def test_what_was_admitted_stays_when_the_quota_is_lowered(ledger: Ledger) -> None:
    grant(ledger, "bob", 2)
    waiting = enqueue(ledger, "alice", 1)
    put(ledger, DEFAULT, QuotaRow(max_gpus=0))
    assert read(ledger, waiting) == waiting
    assert request_lease(ledger, wish("alice", 1)) == waiting, (
        "its place is kept over a restart as well"
    )
    (bob,) = (lease for lease in ledger.live_leases() if lease.user == "bob")
    close(ledger, bob)
    assert advance(ledger, 20.0)[1] == {waiting.id: read(ledger, waiting).gpu_uuids}
    assert refused(request_lease(ledger, wish("carol", 1))).reason is Reason.OVER_QUOTA


def test_what_a_user_may_have_is_reported_with_what_counts_against_it(ledger: Ledger) -> None:
    put(ledger, group("vision"), QuotaRow(total_gpus=4, gpu_hours=8, window_days=1))
    mine = request_lease(ledger, wish("alice", 1, "vision"), now=HOUR)
    theirs = request_lease(ledger, wish("bob", 1, "vision"), now=HOUR)
    request_lease(ledger, wish("carol", 1), now=HOUR + 1.0)
    advance(ledger, HOUR + 1.0)
    owner = Owner("alice", "alice", ("vision",))
    found = ledger.entitlement(owner, SETTINGS, now=2 * HOUR + 1.0)
    assert isinstance(mine, Lease)
    assert isinstance(theirs, Lease)
    assert {lease.id for lease in found.leases} == {mine.id, theirs.id}
    assert found.quota.caps == (Cap("vision", 4),)
    assert found.held == pytest.approx(1.0)
    stranger = Owner("eve", "eve", ())
    assert ledger.entitlement(stranger, SETTINGS, now=DAY).quota == SETTINGS
