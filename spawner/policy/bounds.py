"""Bounds: what the extras of a server may be at most, from the admin's file `bounds.toml`.

The broker reads its own copy. A hub that writes other extras into a lease gets no container. Without a file nothing
is allowed beyond the settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spawner.model import SettingsError
from spawner.policy.container import ContainerLimits
from spawner.policy.extras import HOST_CONFIG, ExtraMount, Extras

CLOSED_SOURCES = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp",  # noqa: S108
    "/usr", "/var/lib/containerd", "/var/lib/docker", "/var/run",
)  # fmt: skip
"""Folders of the host that no server may see, nor any folder above or below them."""

_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._@+ -]{1,255})+")
_PATTERN = re.compile(r"[^*\s][^*]{0,200}\*?")


@dataclass(frozen=True)
class MountBound:
    """A folder with everything below it, or a volume's name with a final ``*`` for any ending."""

    source: str
    read_only: bool

    def allows(self, mount: ExtraMount) -> bool:
        """Return whether ``mount`` is within this bound."""
        if self.read_only and not mount.read_only:
            return False
        if self.source.startswith("/"):
            return f"{mount.source}/".startswith(f"{self.source}/")
        return not mount.is_folder and _is_match(mount.source, self.source)


@dataclass(frozen=True)
class Bounds:
    """The bounds of one workbench; None means the setting's own limit.

    ``environment`` and ``args`` are names, or beginnings of names before a final ``*``.
    """

    mounts: tuple[MountBound, ...] = ()
    memory_bytes: int | None = None
    cpus: float | None = None
    environment: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    host_config: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[str, ...]:
        """The host's folders that servers may see."""
        return tuple(bound.source for bound in self.mounts if bound.source.startswith("/"))


def overlaps(path: str, closed: str) -> bool:
    """Return whether one of both folders contains the other."""
    one, other = f"{path.rstrip('/')}/", f"{closed.rstrip('/')}/"
    return one.startswith(other) or other.startswith(one)


def parse_bounds(raw: Mapping[str, Any], instance: str) -> Bounds:
    """Return the bounds of a parsed `bounds.toml`; raises SettingsError with the entry and the fix."""
    known = {"mounts", "memory", "cpus", "environment", "args", "host_config"}
    for key in raw:
        if key not in known:
            raise SettingsError(f"bounds.toml has the key {key}: use {', '.join(sorted(known))}.")
    host_config = _parse_names(raw, "host_config")
    for name in host_config:
        if name not in HOST_CONFIG:
            raise SettingsError(
                f"bounds.toml allows host_config {name}, which no server may have: use "
                f"{', '.join(sorted(HOST_CONFIG))}."
            )
    mounts = raw.get("mounts", [])
    if not isinstance(mounts, list):
        raise SettingsError("bounds.toml has mounts that are no list: write each below [[mounts]].")
    return Bounds(
        mounts=tuple(_parse_mount(mount, instance) for mount in mounts),
        memory_bytes=_parse_memory(raw.get("memory")),
        cpus=_parse_cpus(raw.get("cpus")),
        environment=_parse_names(raw, "environment"),
        args=_parse_names(raw, "args"),
        host_config=host_config,
    )


def explain_excess(extras: Extras, bounds: Bounds, limits: ContainerLimits) -> str | None:
    """Return the part of ``extras`` outside ``bounds``, None if all are within."""
    for mount in extras.mounts:
        if not any(bound.allows(mount) for bound in bounds.mounts):
            kind = "read-only" if mount.read_only else "writable"
            return f"no [[mounts]] allows {mount.source} as a {kind} source"
    most_memory = bounds.memory_bytes or limits.memory_bytes
    if (extras.memory_bytes or 0) > most_memory:
        return f"mem_limit is {extras.memory_bytes} bytes, and memory allows {most_memory}"
    if extras.host_config.get("ShmSize", 0) > (extras.memory_bytes or limits.memory_bytes):
        return "ShmSize is larger than the memory, which includes it"
    most_cpus = max(bounds.cpus or 0.0, limits.cpus)
    if (extras.cpus or 0.0) > most_cpus:
        return f"cpu_limit is {extras.cpus:g}, and cpus allows {most_cpus:g}"
    for kind, given, allowed in (
        ("environment", extras.environment, bounds.environment),
        ("args", extras.args, bounds.args),
        ("host_config", extras.host_config, bounds.host_config),
    ):
        for name in given:
            if not any(_is_match(name, pattern) for pattern in allowed):
                return f"{kind} does not allow {name}"
    return None


def _is_match(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _parse_mount(raw: object, instance: str) -> MountBound:
    if not isinstance(raw, dict) or not raw.keys() <= {"source", "volume", "read_only"}:
        raise SettingsError("bounds.toml: a [[mounts]] has source or volume, and read_only.")
    read_only = raw.get("read_only", True)
    source, volume = raw.get("source"), raw.get("volume")
    if not isinstance(read_only, bool) or (source is None) == (volume is None):
        raise SettingsError("bounds.toml: a [[mounts]] has source or volume, and read_only.")
    if volume is not None:
        if not isinstance(volume, str) or not re.fullmatch(
            r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\*?", volume
        ):
            raise SettingsError(f"bounds.toml: {volume!r} is no volume's name, such as team-*.")
        if is_own_volume(volume.rstrip("*"), instance):
            raise SettingsError(f"bounds.toml: the volume {volume} is the workbench's own.")
        return MountBound(volume, read_only)
    if not isinstance(source, str) or not _PATH.fullmatch(source):
        raise SettingsError(f"bounds.toml: {source!r} is no folder, such as /srv/datasets.")
    for closed in (*CLOSED_SOURCES, f"/var/lib/{instance}"):
        if overlaps(source, closed):
            raise SettingsError(f"bounds.toml: no server may see {source}, because of {closed}.")
    return MountBound(source, read_only)


def is_own_volume(volume: str, instance: str) -> bool:
    """Return whether ``volume`` may be the workbench's own: homes, ledger, sockets."""
    return f"{volume}-".startswith(f"{instance}-") or f"{instance}-".startswith(volume)


def _parse_memory(raw: object) -> int | None:
    if raw is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,6})([MGT])", raw) if isinstance(raw, str) else None
    if match is None:
        raise SettingsError('bounds.toml: memory is a size such as "64G".')
    return int(match[1]) * {"M": 1024**2, "G": 1024**3, "T": 1024**4}[match[2]]


def _parse_cpus(raw: object) -> float | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 < raw <= 4096:
        raise SettingsError("bounds.toml: cpus is a number such as 16.")
    return float(raw)


def _parse_names(raw: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = raw.get(key, [])
    if not isinstance(names, list) or not all(
        isinstance(name, str) and _PATTERN.fullmatch(name) for name in names
    ):
        raise SettingsError(
            f'bounds.toml: {key} is a list of names, such as ["HF_HOME", "TEAM_*"].'
        )
    return tuple(names)
