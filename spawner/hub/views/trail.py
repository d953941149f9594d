"""Trail view: the words of each action of the audit trail, between its actor and its subject."""

from __future__ import annotations

from collections.abc import Mapping

from spawner.ledger.trail import TrailAction

ACTION_WORDS: Mapping[TrailAction, str] = {
    TrailAction.LEASE_GRANTED: "granted",
    TrailAction.LEASE_ADOPTED: "adopted the running server of",
    TrailAction.LEASE_EXTENDED: "extended",
    TrailAction.LEASE_MOVED: "moved in the queue",
    TrailAction.LEASE_ENDED: "ended",
    TrailAction.LEASE_LOST: "lost a GPU of",
    TrailAction.GPU_QUARANTINED: "put into quarantine",
    TrailAction.GPU_RETURNED: "released from quarantine",
    TrailAction.GPU_DRAINED: "drained",
    TrailAction.GPU_UNDRAINED: "ended the drain of",
    TrailAction.DISK_LOW: "found little space on",
    TrailAction.DISK_RECOVERED: "found enough space again on",
    TrailAction.HOME_REMOVED: "removed",
    TrailAction.QUOTA_CHANGED: "changed the quota of",
    TrailAction.USER_APPROVED: "approved",
    TrailAction.USER_UNAPPROVED: "withdrew the approval of",
    TrailAction.USER_DISCARDED: "discarded the sign-up of",
    TrailAction.USER_DELETED: "deleted",
    TrailAction.USER_PASSWORD_SET: "set a new password for",
    TrailAction.USER_LOGGED_OUT: "logged out everywhere",
    TrailAction.USER_ADMIN_CHANGED: "changed the admin rights of",
    TrailAction.USER_GROUPS_CHANGED: "changed the groups of",
    TrailAction.USER_CONFIRMED: "typed the password again, as",
    TrailAction.GROUP_CREATED: "created",
    TrailAction.GROUP_DELETED: "deleted",
    TrailAction.SERVER_OPENED: "opened the server of",
    TrailAction.LOG_INS_FAILED: "refused many attempts of",
}
