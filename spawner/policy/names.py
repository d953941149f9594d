"""Names: builds the names of containers and volumes.

Each name carries a lease id or a uid; both are unique and never re-used. The readable part is for people only, so
similar user names never collide.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from spawner.model import Lease

MAX_CHARACTERS = 63  # one DNS label: the proxy reaches a container by its name
_USER_CHARACTERS = 16


def slug(text: str, max_characters: int) -> str:
    """Return ``text`` as at most ``max_characters`` of a-z, 0-9 and inner hyphens, or ``"x"``."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:max_characters].strip("-") or "x"


def container_name(instance: str, lease: Lease) -> str:
    """Return the name of the lease's container: a DNS label, unique by the lease id.

    Docker's DNS gives it to every neighbour, so it reveals nothing: user, server and lease are labels.
    """
    return f"{instance}-server-{hashlib.sha256(lease.id.encode()).hexdigest()[:16]}"


def home_volume(instance: str, user: str, uid: int) -> str:
    """Return the name of the user's home volume, unique by the uid."""
    return f"{instance}-home-{slug(user, _USER_CHARACTERS)}-{uid}"


def preparation_name(instance: str, uid: int) -> str:
    """Return the name of the one-shot container that changes the owner of a new home."""
    return f"{instance}-prepare-home-{uid}"


def linux_name(user: str) -> str:
    """Return the login name inside the container."""
    return slug(user, 32)
