"""What may be asked of the workbench's own pages and API, as JupyterHub scopes.

Everybody may look at GPUs and line and mind their own leases; what an admin may do beyond that, whoever was given the
scope for it may do too. A server's token may mind the lease of its own server, so that JupyterLab can extend it; so
can code in a notebook, within the quota and while nobody waits: its user may anyway.
"""

from __future__ import annotations

ADMIN = "admin:servers"
"""JupyterHub's own: it lets nobody add a scope to those that make an admin."""

GPUS = "custom:workbench:gpus"
READ_GPUS = "custom:workbench:read:gpus"
READ_LINE = "custom:workbench:read:line"
READ_USAGE = "custom:workbench:read:usage"
MOVE = "custom:workbench:line"
END = "custom:workbench:end"
QUOTAS = "custom:workbench:quotas"
READ_QUOTAS = "custom:workbench:read:quotas"
READ_TRAIL = "custom:workbench:read:trail"
LEASES = "custom:workbench:leases"
READ_LEASES = "custom:workbench:read:leases"

DEFINITIONS = {
    GPUS: {
        "description": "See GPUs, drain them, and return those in quarantine.",
        "subscopes": [READ_GPUS],
    },
    MOVE: {"description": "See the line and move who waits in it.", "subscopes": [READ_LINE]},
    END: {"description": "End anybody's lease, and take anybody out of line."},
    READ_GPUS: {"description": "See every GPU: how it is, who holds it."},
    READ_LINE: {"description": "See who holds GPUs and who waits for them."},
    READ_USAGE: {
        "description": "See GPU-hours held and used: one's own, a group's (!group=NAME), everybody's."
    },
    QUOTAS: {"description": "See and set everybody's quotas.", "subscopes": [READ_QUOTAS]},
    READ_QUOTAS: {"description": "See quotas; with a filter, those of a user or group."},
    READ_TRAIL: {"description": "See the audit trail: who did what, when and why."},
    LEASES: {"description": "See and extend leases.", "subscopes": [READ_LEASES]},
    READ_LEASES: {"description": "See leases: how many GPUs, until when."},
}
OF_EVERY_USER = {
    READ_GPUS,
    READ_LINE,
    f"{LEASES}!user",
    f"{READ_QUOTAS}!user",
    f"{READ_USAGE}!user",
}
OF_A_SERVER = f"{LEASES}!server"
