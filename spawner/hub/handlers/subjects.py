"""Which row of the quotas a name of the hub means, and who of the rows is still in the hub.

A row belongs to a group or an identity that the hub knows: one that has left leaves none behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from jupyterhub import orm
from sqlalchemy.orm import Session
from tornado import web

from spawner.hub.identity import identify_row
from spawner.hub.workbench import Workbench
from spawner.ledger.trail import HUB
from spawner.model import Unknown
from spawner.policy.limits import DEFAULT, Limits, Rows, Subject, SubjectKind, group

log = logging.getLogger("workbench.hub")

PLURALS = {"groups": SubjectKind.GROUP, "users": SubjectKind.USER}


def find_subject(db: Session, kind: str, name: str) -> Subject:
    """Return the subject called ``name`` of the ``kind`` ``groups`` or ``users``; raises a 404 where there is none."""
    if PLURALS[kind] is SubjectKind.GROUP:
        if orm.Group.find(db, name=name) is None:
            raise web.HTTPError(404, f"There is no group {name[:40]!r}: add it in Admin first.")
        return group(name)
    row = orm.User.find(db, name=name)
    if row is None:
        raise web.HTTPError(404, f"There is no user {name[:40]!r}: add them in Admin first.")
    return Subject(SubjectKind.USER, identify_row(row), name)


def known_subjects(db: Session) -> dict[Subject, Subject]:
    """Return every group and user of the hub, each by itself, so that it is found with its present name."""
    users = (Subject(SubjectKind.USER, identify_row(row), row.name) for row in db.query(orm.User))
    groups = (group(row.name) for row in db.query(orm.Group))
    return {subject: subject for subject in (DEFAULT, *groups, *users)}


def name_rows(db: Session, rows: Rows) -> dict[Subject, Limits]:
    """Return ``rows`` with the present names of users, without those of who is not in the hub."""
    known = known_subjects(db)
    return {known[subject]: limits for subject, limits in rows.items() if subject in known}


def as_file(rows: Mapping[Subject, Limits]) -> dict[str, object]:
    """Return ``rows`` as REST and quota files have them, by kind and name."""
    said = {subject: limits.as_json() for subject, limits in rows.items()}
    return {
        "default": said.get(DEFAULT, {}),
        **{
            plural: {
                subject.name: limits
                for subject, limits in sorted(said.items(), key=lambda item: item[0].name)
                if subject.kind is kind
            }
            for plural, kind in PLURALS.items()
        },
    }


async def forget_subject(workbench: Workbench, subject: Subject, by: str) -> None:
    """Delete the row of a group or user that is being deleted; raises Unknown."""
    await asyncio.to_thread(
        workbench.ledger.set_quotas,
        {subject: None},
        by=by,
        reason=f"{subject} was deleted",
        now=workbench.clock(),
    )


async def forget_strangers(workbench: Workbench, db: Session) -> None:
    """Delete the rows of who left while no hub looked, as soon as the lease clock goes."""
    await workbench.controller.reconciled()
    known = known_subjects(db)
    try:
        await _forget_all_but(workbench, known)
    except Unknown as error:
        log.warning("Quotas of who left are still there: %s", error)


async def _forget_all_but(workbench: Workbench, known: Mapping[Subject, Subject]) -> None:
    await asyncio.to_thread(workbench.ledger.keep_quotas_of, known, by=HUB, now=workbench.clock())
