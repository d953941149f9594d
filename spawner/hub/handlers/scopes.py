"""Scopes: name the JupyterHub scopes of the workbench's own pages and REST API.

Every user sees the GPUs and the queue, and extends their own leases. Each further right of an admin has a scope of its
own. A server's token holds the lease scope of its own server, so that JupyterLab can extend the lease. Code in a
notebook can use that token too; quota and queue bound it as they bound its user.
"""

from __future__ import annotations

ADMIN = "admin:servers"
"""JupyterHub's own scope of its admins, whose set of scopes cannot be extended."""

GPUS = "custom:workbench:gpus"
READ_GPUS = "custom:workbench:read:gpus"
READ_QUEUE = "custom:workbench:read:queue"
READ_USAGE = "custom:workbench:read:usage"
QUEUE = "custom:workbench:queue"
END = "custom:workbench:end"
QUOTAS = "custom:workbench:quotas"
READ_QUOTAS = "custom:workbench:read:quotas"
READ_TRAIL = "custom:workbench:read:trail"
HOMES = "custom:workbench:homes"
LEASES = "custom:workbench:leases"
READ_LEASES = "custom:workbench:read:leases"

DEFINITIONS = {
    GPUS: {
        "description": "See GPUs, drain them, and release them from quarantine.",
        "subscopes": [READ_GPUS],
    },
    QUEUE: {"description": "See the queue and move requests in it.", "subscopes": [READ_QUEUE]},
    END: {"description": "End any lease, and take any request out of the queue."},
    READ_GPUS: {"description": "See every GPU, its health and its holder."},
    READ_QUEUE: {"description": "See the queue: leases that hold GPUs and requests that wait."},
    READ_USAGE: {"description": "See GPU-hours held and used."},
    QUOTAS: {"description": "See and set all quotas.", "subscopes": [READ_QUOTAS]},
    READ_QUOTAS: {"description": "See quotas."},
    READ_TRAIL: {"description": "See the audit trail: actor, action, time and reason."},
    HOMES: {"description": "See all homes, and remove those of deleted users."},
    LEASES: {"description": "See and extend leases.", "subscopes": [READ_LEASES]},
    READ_LEASES: {"description": "See leases: number of GPUs and end."},
}
OF_EVERY_USER = {
    READ_GPUS,
    READ_QUEUE,
    f"{LEASES}!user",
    f"{READ_QUOTAS}!user",
    f"{READ_USAGE}!user",
}
OF_A_SERVER = f"{LEASES}!server"
