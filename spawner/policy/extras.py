"""Extras: the part of a server that the admin's site files add to its lease, as data.

The hub evaluates the traits once, at admission, and writes the result into the lease as JSON. Hub and broker parse it
with the same closed schema, whose limits hold whatever the bounds allow.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spawner.model import ExtrasError

HUB_VARIABLES = frozenset(
    {
        "CPU_GUARANTEE",
        "JPY_API_TOKEN",
        "JUPYTERHUB_ACTIVITY_URL",
        "JUPYTERHUB_ADMIN_ACCESS",
        "JUPYTERHUB_API_TOKEN",
        "JUPYTERHUB_API_URL",
        "JUPYTERHUB_BASE_URL",
        "JUPYTERHUB_CLIENT_ID",
        "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED",
        "JUPYTERHUB_COOKIE_OPTIONS",
        "JUPYTERHUB_DEBUG",
        "JUPYTERHUB_DEFAULT_URL",
        "JUPYTERHUB_DISABLE_USER_CONFIG",
        "JUPYTERHUB_HOST",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES",
        "JUPYTERHUB_OAUTH_CALLBACK_URL",
        "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES",
        "JUPYTERHUB_OAUTH_SCOPES",
        "JUPYTERHUB_PUBLIC_HUB_URL",
        "JUPYTERHUB_PUBLIC_URL",
        "JUPYTERHUB_ROOT_DIR",
        "JUPYTERHUB_SERVER_NAME",
        "JUPYTERHUB_SERVICE_PREFIX",
        "JUPYTERHUB_SERVICE_URL",
        "JUPYTERHUB_USER",
        "MEM_GUARANTEE",
        "TZ",
    }
)
"""The variables whose values the hub chooses for each server.

A closed list: JUPYTERHUB_SINGLEUSER_APP and _EXTENSION would choose the program of a server.
"""

FIXED_VARIABLES = frozenset(
    {"USER", "LOGNAME", "HOME", "NVIDIA_VISIBLE_DEVICES", "MEM_LIMIT", "CPU_LIMIT"}
)
"""The variables that `policy.container` sets for every server."""

CLOSED_TARGETS = (
    "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "opt", "proc", "root", "run", "sbin", "sys",
    "tmp", "usr", "var",
)  # fmt: skip
"""Top folders of a server in which nothing is mounted.

They hold the image's programs, the home, the driver, and every link of the image. A user could put a link into the
home, and Docker would follow it.
"""
SERVICE_HOSTS = frozenset({"hub", "proxy", "proxy-api", "gpu-agent", "broker", "localhost"})

_MAX_CHARACTERS = 65536
_MAX_ENTRIES = 64
_MAX_VALUE_CHARACTERS = 4096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._@+ -]{1,255})+")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_CPUSET = re.compile(r"[0-9]{1,4}(?:-[0-9]{1,4})?(?:,[0-9]{1,4}(?:-[0-9]{1,4})?){0,63}")
_TMPFS = re.compile(
    r"(?:size=[0-9]{1,12}[kmg]?|mode=[0-7]{3,4}|noexec|exec|rw|ro)"
    r"(?:,(?:size=[0-9]{1,12}[kmg]?|mode=[0-7]{3,4}|noexec|exec|rw|ro)){0,4}|"
)
_ULIMITS = frozenset({"memlock", "nofile", "nproc", "stack", "data", "fsize", "msgqueue", "rss"})


@dataclass(frozen=True)
class ExtraMount:
    """A folder of the host, or a named volume, in a server; ``source`` of a folder begins with a slash."""

    source: str
    target: str
    read_only: bool

    @property
    def is_folder(self) -> bool:
        """Whether the source is a folder of the host, not a named volume."""
        return self.source.startswith("/")


@dataclass(frozen=True)
class Extras:
    """All extras of one server; None and empty mean the workbench's own value.

    ``host_config`` has keys and values of Docker's ``HostConfig``.
    """

    mounts: tuple[ExtraMount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int | None = None
    cpus: float | None = None
    args: tuple[str, ...] = ()
    host_config: Mapping[str, Any] = field(default_factory=dict)


def format_extras(raw: Mapping[str, Any]) -> str:
    """Return ``raw`` as the text of a lease, "" where nothing is set; raises ExtrasError unless it parses."""
    kept = {name: value for name, value in raw.items() if value not in (None, [], {})}
    if not kept:
        return ""
    text = json.dumps(kept, sort_keys=True)
    parse_extras(text)
    return text


def parse_extras(text: str) -> Extras:
    """Return the extras of a lease's text; raises ExtrasError with the part that is outside the schema."""
    if not text:
        return Extras()
    if len(text) > _MAX_CHARACTERS:
        raise ExtrasError("the extras are longer than 64 KiB")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExtrasError("the extras are not JSON") from error
    _require_keys(
        raw, {"mounts", "environment", "memory_bytes", "cpus", "args", "host_config"}, "extras"
    )
    host_config = raw.get("host_config", {})
    _require_keys(host_config, set(_HOST_CONFIG), "extra_host_config")
    for name, value in host_config.items():
        if not _HOST_CONFIG[name](value):
            raise ExtrasError(f"extra_host_config {name} has the value {value!r}")
    mounts = tuple(map(_parse_mount, _entries(raw.get("mounts", []), "mounts")))
    _require_targets([*(mount.target for mount in mounts), *host_config.get("Tmpfs", {})])
    return Extras(
        mounts=mounts,
        environment=_parse_environment(raw.get("environment", {})),
        memory_bytes=_parse_memory(raw.get("memory_bytes")),
        cpus=_parse_cpus(raw.get("cpus")),
        args=tuple(_parse_arg(arg) for arg in _entries(raw.get("args", []), "args")),
        host_config=host_config,
    )


def redact(text: str) -> str:
    """Return the extras of a lease for the audit trail: variables without their values, which may be secrets."""
    if not text:
        return ""
    raw: dict[str, Any] = json.loads(text)
    if "environment" in raw:
        raw["environment"] = sorted(raw["environment"])
    return json.dumps(raw, sort_keys=True)


def _require_keys(raw: object, known: set[str], what: str) -> None:
    if not isinstance(raw, dict):
        raise ExtrasError(f"{what} is not a dict")
    for key in raw:
        if key not in known:
            raise ExtrasError(f"{what} has the key {key!r}, which no server may have")


def _entries(raw: object, what: str) -> list[Any]:
    if not isinstance(raw, list) or len(raw) > _MAX_ENTRIES:
        raise ExtrasError(f"{what} is not a list of at most {_MAX_ENTRIES} entries")
    return raw


def _parse_mount(raw: object) -> ExtraMount:
    _require_keys(raw, {"source", "target", "read_only"}, "a mount")
    values: dict[str, Any] = dict(raw)  # type: ignore[call-overload]
    mount = ExtraMount(
        values.get("source", ""), values.get("target", ""), values.get("read_only", True)
    )
    is_text = isinstance(mount.source, str) and isinstance(mount.target, str)
    if not is_text or not isinstance(mount.read_only, bool):
        raise ExtrasError("a mount has no source, target and read_only")
    if not (_PATH if mount.is_folder else _VOLUME).fullmatch(mount.source):
        raise ExtrasError(f"the source {mount.source!r} is no absolute path and no volume's name")
    return mount


def _require_targets(targets: Iterable[str]) -> None:
    """Refuse targets outside the free folders, and one target inside another: it could hold a link."""
    seen: list[str] = []
    for target in targets:
        if not _PATH.fullmatch(target):
            raise ExtrasError(f"the target {target!r} is no plain absolute path")
        if target.split("/")[1] in CLOSED_TARGETS:
            raise ExtrasError(
                f"nothing may be mounted at {target}: use a folder below /data, /mnt or /srv"
            )
        for other in seen:
            if f"{target}/".startswith(f"{other}/") or f"{other}/".startswith(f"{target}/"):
                raise ExtrasError(f"the targets {other} and {target} lie in each other")
        seen.append(target)


def _parse_environment(raw: object) -> dict[str, str]:
    if not isinstance(raw, dict) or len(raw) > _MAX_ENTRIES:
        raise ExtrasError(f"environment is not a dict of at most {_MAX_ENTRIES} variables")
    for name, value in raw.items():
        if not _NAME.fullmatch(name):
            raise ExtrasError(f"environment has the name {name!r}, which is no variable's")
        if name in HUB_VARIABLES | FIXED_VARIABLES or name.startswith(("JUPYTERHUB_", "JPY_")):
            raise ExtrasError(f"the variable {name} is the workbench's own")
        if not isinstance(value, str) or "\0" in value or len(value) > _MAX_VALUE_CHARACTERS:
            raise ExtrasError(f"the variable {name} is no text of at most 4096 characters")
    return dict(raw)


def _parse_memory(raw: object) -> int | None:
    if raw is not None and (not _is_int(raw, 64 * 1024**2, 2**50)):
        raise ExtrasError(f"mem_limit is {raw!r} bytes, but needs at least 64 MiB")
    return raw  # type: ignore[return-value]


def _parse_cpus(raw: object) -> float | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0.01 <= raw <= 4096:
        raise ExtrasError(f"cpu_limit is {raw!r}, but needs a number of CPUs such as 4 or 7.5")
    return float(raw)


def _parse_arg(raw: object) -> str:
    if not isinstance(raw, str) or not raw.startswith("--") or len(raw) > _MAX_VALUE_CHARACTERS:
        raise ExtrasError(f"args has {raw!r}, but an argument begins with --")
    return raw


def _is_int(raw: object, least: int, most: int) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool) and least <= raw <= most


def _is_address(raw: object) -> bool:
    try:
        ipaddress.ip_address(raw)  # type: ignore[arg-type]
    except ValueError:
        return False
    return isinstance(raw, str)


def _is_host_entry(raw: object) -> bool:
    name, _, address = raw.partition(":") if isinstance(raw, str) else ("", "", "")
    return bool(_HOST.fullmatch(name)) and name not in SERVICE_HOSTS and _is_address(address)


def _is_ulimit(raw: object) -> bool:
    return (
        isinstance(raw, dict)
        and raw.keys() == {"Name", "Soft", "Hard"}
        and raw["Name"] in _ULIMITS
        and _is_int(raw["Soft"], -1, 2**62)
        and _is_int(raw["Hard"], -1, 2**62)
    )


def _each(is_valid: Callable[[object], bool]) -> Callable[[Any], bool]:
    return lambda raw: (
        isinstance(raw, list) and len(raw) <= _MAX_ENTRIES and all(map(is_valid, raw))
    )


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda raw: isinstance(raw, str) and pattern.fullmatch(raw) is not None


def _is_tmpfs(raw: object) -> bool:
    return isinstance(raw, dict) and len(raw) <= 8 and all(map(_matches(_TMPFS), raw.values()))


_HOST_CONFIG: Mapping[str, Callable[[Any], bool]] = {
    "ShmSize": lambda raw: _is_int(raw, 1024**2, 2**50),
    "Ulimits": _each(_is_ulimit),
    "Dns": _each(_is_address),
    "DnsSearch": _each(_matches(_HOST)),
    "ExtraHosts": _each(_is_host_entry),
    "CpuShares": lambda raw: _is_int(raw, 2, 262144),
    "CpusetCpus": _matches(_CPUSET),
    "BlkioWeight": lambda raw: _is_int(raw, 10, 1000),
    "OomScoreAdj": lambda raw: _is_int(raw, 0, 1000),
    "Tmpfs": _is_tmpfs,
}
HOST_CONFIG = frozenset(_HOST_CONFIG)
"""The keys of Docker's ``HostConfig`` that a site file can set."""
