"""Quota subjects: map names of the hub's users and groups to quota rows, and back.

A row belongs to a group or an identity of the hub; the row of a deleted user or group is deleted too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from jupyterhub import orm
from sqlalchemy.orm import Session
from tornado import web

from spawner.hub.identity import identify_row
from spawner.hub.schema.quotas import QuotaFileJson
from spawner.hub.workbench import Workbench
from spawner.ledger.trail import HUB
from spawner.model import Unknown
from spawner.policy.quota_rows import DEFAULT, QuotaRow, QuotaRows, Subject, SubjectKind, group

log = logging.getLogger(__name__)

PLURALS = {"groups": SubjectKind.GROUP, "users": SubjectKind.USER}


def get_subject(db: Session, kind: str, name: str) -> Subject:
    """Return the subject called ``name`` of the ``kind`` ``groups`` or ``users``; raises a 404 where there is none."""
    if PLURALS[kind] is SubjectKind.GROUP:
        if orm.Group.find(db, name=name) is None:
            raise web.HTTPError(404, f"There is no group {name[:40]!r}: add it in Admin first.")
        return group(name)
    row = orm.User.find(db, name=name)
    if row is None:
        raise web.HTTPError(404, f"There is no user {name[:40]!r}: add them in Admin first.")
    return Subject(SubjectKind.USER, identify_row(row), name)


def name_rows(db: Session, rows: QuotaRows) -> dict[Subject, QuotaRow]:
    """Return ``rows`` with the current names of users, without rows of deleted users and groups."""
    names = [subject.key for subject in rows if subject.kind is SubjectKind.GROUP]
    found = db.query(orm.Group.name).filter(orm.Group.name.in_(names))
    groups = [group(row.name) for row in found]
    # an identity begins with the row's id; loading whole users would take ten times as long
    ids = [int(s.key.partition(" ")[0]) for s in rows if s.kind is SubjectKind.USER]
    columns = (orm.User.id, orm.User.created, orm.User.name)
    found = db.query(*columns).filter(orm.User.id.in_(ids))
    users = [Subject(SubjectKind.USER, identify_row(row), row.name) for row in found]
    known = {subject: subject for subject in (DEFAULT, *groups, *users)}
    return {known[subject]: limits for subject, limits in rows.items() if subject in known}


def as_file(rows: Mapping[Subject, QuotaRow]) -> QuotaFileJson:
    """Return ``rows`` in the form of REST and quota files, by kind and name."""
    said = {subject: limits.as_json() for subject, limits in rows.items()}
    by_name = sorted(said.items(), key=lambda item: item[0].name)
    groups, users = (
        {subject.name: limits for subject, limits in by_name if subject.kind is kind}
        for kind in PLURALS.values()
    )
    return {"default": said.get(DEFAULT, {}), "groups": groups, "users": users}


async def delete_subject(workbench: Workbench, subject: Subject, by: str) -> None:
    """Delete the row of a group or user that is being deleted; raises Unknown."""
    await _delete(workbench, [subject], by, f"{subject} was deleted")


async def delete_stale_rows(workbench: Workbench, db: Session) -> None:
    """Delete the rows of users and groups that were deleted while no hub ran, once the lease clock runs."""
    await workbench.controller.wait_until_ready()
    try:
        rows = await asyncio.to_thread(workbench.ledger.quota_rows)
        gone = rows.keys() - name_rows(db, rows).keys()
        await _delete(workbench, gone, HUB, "it is not in the hub any more")
    except Unknown as error:
        log.warning("quotas=stale state=kept reason=%s", error)


async def _delete(workbench: Workbench, gone: Iterable[Subject], by: str, reason: str) -> None:
    await asyncio.to_thread(
        workbench.ledger.set_quotas,
        dict.fromkeys(gone),
        by=by,
        reason=reason,
        now=workbench.clock(),
    )
