"""What may be asked of the workbench's own pages and API, as JupyterHub scopes.

Everybody may look at the line and mind their own leases. A server's token may mind the lease of its own server, so that
JupyterLab can extend it; so can code in a notebook, within the quota and while nobody waits: its user may anyway.
"""

from __future__ import annotations

READ_LINE = "custom:workbench:read:line"
LEASES = "custom:workbench:leases"
READ_LEASES = "custom:workbench:read:leases"

DEFINITIONS = {
    READ_LINE: {"description": "See who holds GPUs and who waits for them."},
    LEASES: {"description": "See and extend leases.", "subscopes": [READ_LEASES]},
    READ_LEASES: {"description": "See leases: how many GPUs, until when."},
}
OF_EVERY_USER = {READ_LINE, f"{LEASES}!user"}
OF_A_SERVER = f"{LEASES}!server"
