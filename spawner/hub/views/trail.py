"""Trail view: says the entries of the audit trail in plain words for its page; REST and files keep the names."""

from __future__ import annotations

from spawner.ledger.trail import HUB, StoredEntry, TrailAction
from spawner.model import Cause
from spawner.policy.formatting import format_subject

ACTION_WORDS = {
    TrailAction.LEASE_GRANTED: ("GPUs granted", "granted"),
    TrailAction.LEASE_ADOPTED: ("Running server found", "found the running server of"),
    TrailAction.LEASE_EXTENDED: ("Lease extended", "extended"),
    TrailAction.LEASE_MOVED: ("Moved in the queue", "moved in the queue"),
    TrailAction.LEASE_ENDED: ("Lease ended", "ended"),
    TrailAction.LEASE_LOST: ("GPU of a lease lost", "found a failed GPU in"),
    TrailAction.GPU_QUARANTINED: ("GPU quarantined", "quarantined"),
    TrailAction.GPU_RETURNED: ("GPU released", "released from quarantine"),
    TrailAction.GPU_DRAINED: ("GPU drained", "drained"),
    TrailAction.GPU_UNDRAINED: ("Drain ended", "ended the drain of"),
    TrailAction.DISK_LOW: ("Little disk space", "found little free space on the"),
    TrailAction.DISK_RECOVERED: ("Disk space again", "found enough free space on the"),
    TrailAction.HOME_MENDED: ("Home repaired", "repaired"),
    TrailAction.HOME_REMOVED: ("Home removed", "removed"),
    TrailAction.QUOTA_CHANGED: ("Quota changed", "changed the quota of"),
    TrailAction.USER_APPROVED: ("Account approved", "approved"),
    TrailAction.USER_UNAPPROVED: ("Approval withdrawn", "withdrew the approval of"),
    TrailAction.USER_DISCARDED: ("Sign-up declined", "declined the sign-up of"),
    TrailAction.USER_DELETED: ("User deleted", "deleted"),
    TrailAction.USER_PASSWORD_SET: ("Password set by an admin", "set the password of"),
    TrailAction.USER_PASSWORD_LINK: ("Password link made", "made a password link for"),
    TrailAction.USER_LOGGED_OUT: ("Logged out everywhere", "logged out everywhere"),
    TrailAction.USER_ADMIN_CHANGED: ("Admin's rights changed", "changed the admin's rights of"),
    TrailAction.USER_GROUPS_CHANGED: ("Groups of a user changed", "changed the groups of"),
    TrailAction.USER_CONFIRMED: ("Password typed again", "typed the password again, as"),
    TrailAction.GROUP_CREATED: ("Group created", "created"),
    TrailAction.GROUP_DELETED: ("Group deleted", "deleted"),
    TrailAction.SERVER_OPENED: ("Server of another user opened", "opened the server of"),
    TrailAction.LOG_INS_FAILED: ("Many failed log-ins", "counted many failed log-ins"),
}
"""For each action its name in the search, and its verb between actor and subject."""
_CAUSES = {
    Cause.USER: "stopped through the hub",
    Cause.ADMIN: "by an admin",
    Cause.FAILED: "the start failed",
    Cause.INTERRUPTED: "the hub restarted during the start",
    Cause.EXPIRED: "its time was over",
    Cause.UNCLAIMED: "not opened in time",
    Cause.EXITED: "the server ended by itself",
    Cause.OUT_OF_MEMORY: "out of memory",
    Cause.LOST: "the container disappeared",
    Cause.IDLE: "idle",
}


def name_actor(stored: StoredEntry) -> str:
    """Return the actor of the entry; automatic actions are the hub's."""
    return "The hub" if stored.entry.actor == HUB else stored.entry.actor


def describe_action(stored: StoredEntry) -> str:
    """Return the verb of the entry."""
    return ACTION_WORDS[stored.entry.action][1]


def name_subject(stored: StoredEntry) -> str:
    """Return the subject of the entry: a user by the name alone, a lease with its user and GPUs."""
    entry = stored.entry
    if entry.action is TrailAction.LOG_INS_FAILED:
        return ""
    if entry.subject == "default":
        return "everyone else"
    return format_subject(entry.subject, entry.after).removeprefix("user ")


def explain(stored: StoredEntry) -> str | None:
    """Return the reason of the entry; the cause of an ended lease in words."""
    reason = stored.entry.reason
    if stored.entry.action is TrailAction.LEASE_ENDED and reason in list(Cause):
        return _CAUSES[Cause(reason)]
    return reason
