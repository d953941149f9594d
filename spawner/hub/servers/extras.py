"""Extras of a spawner: evaluates the traits of the site files, once, into the extras of a new lease.

A trait is a value, a function of the spawner, or an async one. Templates such as `{username}` are DockerSpawner's.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from jupyterhub.traitlets import ByteSpecification

from spawner.model import ExtrasError
from spawner.policy.extras import HOST_CONFIG, format_extras

_DOCKER_PY_NAMES = {
    "shm_size": "ShmSize",
    "ulimits": "Ulimits",
    "dns": "Dns",
    "dns_search": "DnsSearch",
    "extra_hosts": "ExtraHosts",
    "cpu_shares": "CpuShares",
    "cpuset_cpus": "CpusetCpus",
    "blkio_weight": "BlkioWeight",
    "oom_score_adj": "OomScoreAdj",
    "tmpfs": "Tmpfs",
}
"""The names that docker-py has for keys of ``HostConfig``."""

_REFUSED_KEYS = {
    "privileged": "no server is privileged",
    "binds": "use c.DockerSpawner.volumes",
    "mounts": "use c.DockerSpawner.mounts",
    "devices": "a lease alone gives devices",
    "device_requests": "a lease alone gives GPUs",
    "runtime": "GPUs come through CDI",
    "pid_mode": "servers share no processes",
    "ipc_mode": "servers share no memory",
    "network_mode": "servers have one network with walls",
    "cap_add": "no server has a capability",
    "security_opt": "the walls of a server are fixed",
    "port_bindings": "the proxy alone reaches servers",
    "links": "servers do not reach each other",
    "mem_limit": "use c.DockerSpawner.mem_limit",
    "nano_cpus": "use c.DockerSpawner.cpu_limit",
    "cpu_quota": "use c.DockerSpawner.cpu_limit",
    "auto_remove": "the controller removes containers",
    "restart_policy": "a lease ends with its container",
}
"""Keys of ``extra_host_config`` with the reason of their refusal."""


async def evaluate_extras(spawner: Any, *, only_static: bool = False) -> str:  # noqa: ANN401
    """Return the extras of a new lease of ``spawner`` as text; raises ExtrasError.

    With ``only_static`` a function counts as not set: the check of the configuration has no user.
    """

    async def read(trait: str, default: object) -> Any:  # noqa: ANN401
        value = getattr(spawner, trait)
        if callable(value):
            if only_static:
                return default
            value = await _call(spawner, trait, value)
        return default if value is None else value

    return format_extras(
        {
            "mounts": [
                *_as_mounts(spawner, await read("volumes", {}), "rw"),
                *_as_mounts(spawner, await read("read_only_volumes", {}), "ro"),
                *(_as_mount(spawner, mount) for mount in await read("mounts", [])),
            ],
            "environment": await _read_environment(
                spawner, await read("environment", {}), only_static=only_static
            ),
            "memory_bytes": _as_bytes(spawner, await read("mem_limit", None)),
            "cpus": await read("cpu_limit", None) or None,
            "args": [str(arg) for arg in spawner._render_templates(await read("args", []))],
            "host_config": _as_host_config(
                spawner._render_templates(await read("extra_host_config", {}))
            ),
        }
    )


async def _call(spawner: Any, trait: str, function: Any) -> Any:  # noqa: ANN401
    try:
        value = spawner._eval_if_callable(function)
        return await value if inspect.isawaitable(value) else value
    except Exception as error:  # the admin's own function
        spawner.log.exception("user=%s trait=%s state=failed", spawner.user.name, trait)
        raise ExtrasError(f"the function of {trait} failed: {type(error).__name__}") from error


async def _read_environment(
    spawner: Any,  # noqa: ANN401
    environment: Mapping[str, Any],
    *,
    only_static: bool,
) -> dict[str, str]:
    chosen = {}
    for name, value in environment.items():
        if not callable(value):
            chosen[name] = str(value)
        elif not only_static:
            chosen[name] = str(await _call(spawner, f"environment {name}", value))
    return chosen


def _as_mounts(spawner: Any, volumes: Mapping[str, Any], mode: str) -> list[dict[str, Any]]:  # noqa: ANN401
    mounts = []
    for source, bind in spawner._volumes_to_binds(volumes, {}, mode=mode).items():
        if bind.keys() - {"bind", "mode"} or bind["mode"] not in ("ro", "rw"):
            raise ExtrasError(f"the volume {source} has more than a target and the mode ro or rw")
        mounts.append({"source": source, "target": bind["bind"], "read_only": bind["mode"] == "ro"})
    return mounts


def _as_mount(spawner: Any, mount: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    unknown = mount.keys() - {"source", "target", "type", "read_only"}
    if unknown or "source" not in mount or "target" not in mount:
        raise ExtrasError(
            "mounts has an entry with other keys than source, target, type and read_only"
        )
    source = spawner.format_volume_name(mount["source"], spawner)
    kind = "bind" if source.startswith("/") else "volume"
    if mount.get("type", kind) != kind:
        raise ExtrasError(f"the mount {source} has the type {mount['type']}, but it is a {kind}")
    target = spawner.format_volume_name(mount["target"], spawner)
    return {"source": source, "target": target, "read_only": bool(mount.get("read_only", False))}


def _as_bytes(spawner: Any, value: object) -> int | None:  # noqa: ANN401
    if not value:
        return None
    try:
        # docker-py has small letters
        size = value.upper() if isinstance(value, str) else value
        return int(ByteSpecification().validate(spawner, size))
    except Exception as error:  # traitlets raises its own for a wrong text
        raise ExtrasError(f"mem_limit is {value!r}, which is no size such as 8G") from error


def _as_host_config(raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ExtrasError("extra_host_config is no dict")
    config = {}
    for key, value in raw.items():
        name = _DOCKER_PY_NAMES.get(key, key)
        if name not in HOST_CONFIG:
            why = _REFUSED_KEYS.get(key, f"use {', '.join(sorted(HOST_CONFIG))}")
            raise ExtrasError(f"extra_host_config cannot have {key}: {why}")
        config[name] = _as_api_value(name, value)
    return config


def _as_api_value(name: str, value: Any) -> Any:  # noqa: ANN401
    """Return a value in docker-py's form as Docker's API has it; others stay."""
    if name == "ShmSize":
        return _as_bytes(None, value)
    if name == "ExtraHosts" and isinstance(value, dict):
        return [f"{host}:{address}" for host, address in sorted(value.items())]
    if name == "Tmpfs" and isinstance(value, list):
        return dict.fromkeys(value, "")
    if name == "Ulimits" and isinstance(value, list):
        return [
            {key.title(): limit for key, limit in dict(one).items()}
            if isinstance(one, dict)
            else one
            for one in value
        ]
    return value
