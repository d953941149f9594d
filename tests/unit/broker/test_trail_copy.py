"""The broker's log has every entry of the trail, and says when one is gone."""

import json
import logging

import pytest
import sqlalchemy as sa

from spawner.broker.trail_copy import TrailCopy
from spawner.ledger import Ledger, tables
from spawner.ledger.trail import TrailAction, TrailEntry


def add(ledger: Ledger, reason: str) -> None:
    ledger.add_entry(
        TrailEntry(1.0, "root", TrailAction.GPU_DRAINED, "GPU-0", None, {"n": 1}, reason)
    )


def copied(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [line.message.partition("Trail: ")[2] for line in caplog.records]
    return [json.loads(line)["reason"] for line in lines if line]


def test_new_entries_are_copied_once(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    copy = TrailCopy(lambda: ledger)
    add(ledger, "before")
    copy.copy_new()
    for reason in ("a", "b"):
        add(ledger, reason)
    copy.copy_new()
    copy.copy_new()
    assert copied(caplog) == ["a", "b"]


def test_a_trail_that_a_fallen_hub_rewrote_is_reported(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger.open(sqlite_url, first_uid=20000)
    copy = TrailCopy(lambda: ledger)
    copy.copy_new()
    add(ledger, "stolen")
    copy.copy_new()
    with ledger._engine.begin() as connection:
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        for (name,) in connection.exec_driver_sql(triggers).all():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.execute(sa.update(tables.trail).values(reason="harmless"))
    copy.copy_new()
    assert "Trail changed: entry=1" in caplog.text
    caplog.clear()
    with ledger._engine.begin() as connection:
        connection.execute(sa.delete(tables.trail))
    copy.copy_new()
    assert "Trail changed: entry=1" in caplog.text
    ledger.close()


@pytest.mark.parametrize("damage", ["action = 'none'", "after = '[1'", "subject = x'ff'"])
def test_a_row_that_cannot_be_read_is_reported_and_ends_no_copy(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    ledger = Ledger.open(sqlite_url, first_uid=20000)
    copy = TrailCopy(lambda: ledger)
    copy.copy_new()
    add(ledger, "stolen")
    with ledger._engine.begin() as connection:
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        for (name,) in connection.exec_driver_sql(triggers).all():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql(f"UPDATE trail SET {damage}")  # noqa: S608
    for _ in range(2):
        copy._try_copy()
    assert caplog.text.count("Trail unreadable: after=0") == 1
    ledger.close()
