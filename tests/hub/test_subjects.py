"""QuotaRows of the quotas by the names of the hub's database, of which only what they are about is read."""

import sqlalchemy as sa
from jupyterhub import orm

from spawner.hub.handlers.subjects import name_rows
from spawner.hub.identity import identify_row
from spawner.policy.quota_rows import DEFAULT, QuotaRow, Subject, SubjectKind, group

ONE = QuotaRow(max_gpus=1)


def test_the_rows_have_present_names_and_no_user_is_loaded_for_them() -> None:
    db = orm.new_session_factory("sqlite://")()
    alice = orm.User(name="alice")
    db.add_all([alice, orm.User(name="bob"), orm.Group(name="vision"), orm.Group(name="audio")])
    db.commit()
    identity = identify_row(alice)
    alice.name = "alicia"
    db.commit()
    db.expunge_all()
    loaded: list[object] = []
    sa.event.listen(db, "loaded_as_persistent", lambda _, row: loaded.append(row))
    rows = {
        DEFAULT: ONE,
        group("vision"): ONE,
        group("chess"): ONE,
        Subject(SubjectKind.USER, identity, "alice"): ONE,
        Subject(SubjectKind.USER, identity + "0", "who had the id before"): ONE,
        Subject(SubjectKind.USER, "7 then", "eve"): ONE,
    }
    assert [str(subject) for subject in name_rows(db, rows)] == [
        "default",
        "group vision",
        "user alicia",
    ]
    assert loaded == []
    db.close()
