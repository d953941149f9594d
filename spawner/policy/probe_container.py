"""Probe containers: two containers without a user that try the walls of the users' network.

They have the network and the hardening of a server; one listens, the other one attacks. Nothing of them is chosen by
the client that asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spawner.policy.container import (
    LABEL_INSTANCE,
    LABEL_ROLE,
    PORT,
    hardening,
    network_name,
)

HUB_IMAGE = "gpu-workbench-hub:local"
ROLE_PROBE = "network-probe"
_NOBODY = 65534
_MEMORY_BYTES = 128 * 1024**2
_MAX_HOST_ADDRESSES = 100


def probe_names(instance: str) -> tuple[str, str]:
    """Return the names of the peer, which listens, and of the probe, which attacks."""
    return f"{instance}-probe-peer", f"{instance}-probe"


def build_probes(
    instance: str, image_id: str, host_addresses: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return both create bodies by the containers' names.

    The broker adds ``host_addresses``; the probe tries its own gateway without them.
    """
    hosts = host_addresses[:_MAX_HOST_ADDRESSES]
    peer, probe = probe_names(instance)
    module = ["python3", "-m", "spawner.network_probe"]
    return {
        peer: _build(instance, image_id, [*module, "listen"]),
        probe: _build(instance, image_id, [*module, "attack", peer, *hosts]),
    }


def _build(instance: str, image_id: str, command: list[str]) -> dict[str, Any]:
    return {
        "Image": image_id,
        "Cmd": command,
        "User": f"{_NOBODY}:{_NOBODY}",
        "WorkingDir": "/",
        "Hostname": instance,
        "Env": [],
        "Tty": True,  # its log is then plain text
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "Labels": {LABEL_INSTANCE: instance, LABEL_ROLE: ROLE_PROBE},
        "HostConfig": {
            **hardening(pids=64),
            "NetworkMode": network_name(instance),
            "Memory": _MEMORY_BYTES,
            "MemorySwap": _MEMORY_BYTES,
            "Init": True,
        },
    }
