"""Names of containers and volumes.

A name carries a lease id or a uid, which are unique and never re-used; the readable part is only for people, so two
users whose names look alike can never meet.
"""

from __future__ import annotations

import re
import unicodedata

from spawner.model import Lease

MOST_CHARACTERS = 63  # one DNS label: a container is reached by its name
_USER_CHARACTERS = 16
_SERVER_CHARACTERS = 8


def slug(text: str, most: int) -> str:
    """Return up to ``most`` characters of a-z, 0-9 and inner hyphens that resemble ``text``, or ``"x"``."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:most].strip("-") or "x"


def container_name(instance: str, lease: Lease) -> str:
    """Return the name of the lease's container: a DNS label, unique by the lease id."""
    user = slug(lease.user, _USER_CHARACTERS)
    server = slug(lease.server, _SERVER_CHARACTERS) if lease.server else "lab"
    return f"{instance}-{user}-{server}-{lease.id}"


def home_volume(instance: str, user: str, uid: int) -> str:
    """Return the name of the volume with this user's home, unique by the uid."""
    return f"{instance}-home-{slug(user, _USER_CHARACTERS)}-{uid}"


def preparation_name(instance: str, uid: int) -> str:
    """Return the name of the one-shot container that hands a fresh home to its user."""
    return f"{instance}-prepare-home-{uid}"


def linux_name(user: str) -> str:
    """Return the login name shown inside the container."""
    return slug(user, 32)
