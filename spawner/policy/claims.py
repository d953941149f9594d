"""Claims: decides by form alone whether a row of the ledger, or a label, can be true.

The broker checks each lease and account that it reads with this module: the hub can write any row.
"""

from __future__ import annotations

import re

from spawner.model import Lease
from spawner.policy.uids import LAST_ACCOUNT_UID

_HEX = "[0-9a-f]"
_GPU_UUID = re.compile(rf"(?:GPU|MIG)-{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}")
_LEASE_ID = re.compile(rf"{_HEX}{{16}}")


def is_account_uid(uid: int, first_uid: int) -> bool:
    """Return whether ``uid`` is in the range of accounts: never root's, the host's own or a service's."""
    return first_uid <= uid <= LAST_ACCOUNT_UID


def is_gpu_uuid(text: str) -> bool:
    """Return whether ``text`` has the form of a GPU's or MIG instance's UUID: never ``all``, an index or a path."""
    return _GPU_UUID.fullmatch(text) is not None


def explain_false_lease(lease: Lease, first_uid: int) -> str | None:
    """Return the part of ``lease`` that cannot be true, None if every part can."""
    if not _LEASE_ID.fullmatch(lease.id):
        return "its id has another form"
    if not is_account_uid(lease.uid, first_uid):
        return f"uid {lease.uid} is outside the range of accounts"
    if not all(map(is_gpu_uuid, lease.gpu_uuids)):
        return "a GPU is not named by its UUID"
    if len(set(lease.gpu_uuids)) != lease.gpu_count or len(lease.gpu_uuids) != lease.gpu_count:
        return f"it asked for {lease.gpu_count} GPUs and holds {len(lease.gpu_uuids)}"
    return None
