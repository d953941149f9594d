"""Container bodies: builds the create requests of the Docker Engine API.

The inputs are the lease and the admin's limits. No text of a user reaches a volume, device, command, network or
image. The hub posts these bodies unchanged; the broker rebuilds and compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spawner.model import Account, Lease, StartMode
from spawner.policy import names
from spawner.policy.extras import ExtraMount, parse_extras

HOME = "/home/researcher"
PORT = 8888
LAB_CACHE_SECONDS = 30
"""How long a server lets a browser in without asking the hub again; JupyterHub's default is 300 s."""
LABEL_INSTANCE = "workbench.instance"
LABEL_ROLE = "workbench.role"
LABEL_LEASE = "workbench.lease"
LABEL_EPOCH = "workbench.epoch"
LABEL_USER = "workbench.user"
LABEL_SERVER = "workbench.server"
LABEL_UID = "workbench.uid"
LABEL_RELEASE = "workbench.release"
LABEL_GPUS = "workbench.gpus"
LABEL_MIG_PROFILE = "workbench.mig-profile"
ROLE_SERVER = "server"
ROLE_PREPARE_HOME = "prepare-home"

_START_VARIABLES = {
    StartMode.NORMAL: {},
    StartMode.WITHOUT_PACKAGES: {"WB_PACKAGES": ""},
    StartMode.REPAIR: {"WB_PACKAGES": "", "WB_REPAIR": "1"},
}
"""Variables that the image's entrypoint reads."""
MAX_TERMINALS = 256
"""Pseudo terminals of one server; a host has 3,072 for all servers."""
_MAX_CPU_SHARES = 262144  # Docker's maximum
_LOGS = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
# the image dates its files to the year 2000 for reproducible builds; in a new home they get the current time
_PREPARE_HOME = (
    f"find {HOME} ! -newermt 2000-01-02 -exec touch --no-dereference {{}} + "
    f"&& chown -R --no-dereference $OWNER:$OWNER {HOME} && chmod 0750 {HOME}"
)


@dataclass(frozen=True)
class ContainerLimits:
    """Limits of one server; ``has_dns`` is whether it may ask the host's DNS servers."""

    memory_bytes: int
    cpus: float
    pids: int
    shm_bytes: int
    has_dns: bool = True


def network_name(instance: str) -> str:
    """Return the name of the network of user containers, hub and proxy."""
    return f"{instance}-users"


def default_cpus(host_cpus: int) -> float:
    """Return the CPUs of one server that no setting limits: an eighth stays with the services of the host."""
    return float(min(host_cpus, max(2, host_cpus * 7 // 8)))


def build_server(
    lease: Lease,
    account: Account,
    *,
    instance: str,
    image_id: str,
    limits: ContainerLimits,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Return the create body of the lease's container; ``account`` has the lease's uid.

    ``image_id`` is the image's ``sha256:…`` id. ``environment`` holds the hub's variables for the single-user server.
    """
    login = names.linux_name(lease.user)
    extras = parse_extras(lease.extras)
    memory_bytes, cpus = extras.memory_bytes or limits.memory_bytes, extras.cpus or limits.cpus
    ours = {
        "USER": login,
        "LOGNAME": login,
        "HOME": HOME,
        # CDI alone injects GPUs; NVIDIA's legacy runtime hook, if it is the default, must add none
        "NVIDIA_VISIBLE_DEVICES": "void",
        # as JupyterHub names them, for programs that ask for their limits
        "MEM_LIMIT": str(memory_bytes),
        "CPU_LIMIT": f"{cpus:g}",
    }
    threads = str(max(1, int(cpus / max(1, lease.gpu_count))))
    variables = {
        # libraries count the host's CPUs and would start more threads than the limit lets run
        "OMP_NUM_THREADS": threads,
        **extras.environment,
        **environment,
        **ours,
        **_START_VARIABLES[lease.start_mode],
    }
    body: dict[str, Any] = {
        "Image": image_id,
        "Cmd": [
            "jupyterhub-singleuser",
            f"--HubOAuth.cache_max_age={LAB_CACHE_SECONDS}",
            *extras.args,
        ],
        "User": f"{account.uid}:{account.uid}",
        "WorkingDir": HOME,
        "Hostname": instance,
        "Env": [f"{name}={value}" for name, value in sorted(variables.items())],
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "Labels": {
            LABEL_INSTANCE: instance,
            LABEL_ROLE: ROLE_SERVER,
            LABEL_LEASE: lease.id,
            LABEL_EPOCH: str(lease.epoch),
            LABEL_USER: lease.user,
            LABEL_SERVER: lease.server,
            LABEL_UID: str(account.uid),
            LABEL_RELEASE: lease.release,
            LABEL_GPUS: ",".join(lease.gpu_uuids),
            LABEL_MIG_PROFILE: lease.mig_profile or "",
        },
        "HostConfig": {
            **hardening(limits.pids),
            "NetworkMode": network_name(instance),
            "Memory": memory_bytes,
            "MemorySwap": memory_bytes,
            "ShmSize": min(limits.shm_bytes, memory_bytes),
            "NanoCpus": round(cpus * 1e9),
            # servers that want more CPUs than the host has get them by their GPUs
            "CpuShares": min(1024 * max(1, lease.gpu_count), _MAX_CPU_SHARES),
            "Tmpfs": _tmpfs(account.uid),
            "Init": True,
            "Mounts": [
                _home_mount(instance, account),
                _terminals_mount(),
                *map(_extra_mount, extras.mounts),
            ],
        },
    }
    _add_host_config(body["HostConfig"], extras.host_config)
    if not limits.has_dns:
        # Docker asks a server on the host's loopback from the host, past the walls; its own loopback has none
        body["HostConfig"]["Dns"] = ["127.0.0.1"]
    if lease.gpu_uuids:
        devices = [f"nvidia.com/gpu={uuid}" for uuid in lease.gpu_uuids]
        body["HostConfig"]["DeviceRequests"] = [{"Driver": "cdi", "DeviceIDs": devices}]
    return body


def _add_host_config(host: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Add an admin's part to the ``HostConfig`` of a server; limits and folders of the workbench stay."""
    for name, value in extra.items():
        if name == "Ulimits":
            host[name] = [*host[name], *value]
        elif name == "Tmpfs":
            own = {target: f"nosuid,nodev,{text}".rstrip(",") for target, text in value.items()}
            host[name] = {**host[name], **own}
        else:
            host[name] = value


def _extra_mount(mount: ExtraMount) -> dict[str, Any]:
    body: dict[str, Any] = {
        "Type": "bind" if mount.is_folder else "volume",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    if mount.is_folder:
        # no mount of the server reaches the host, and a missing folder is an error
        body["BindOptions"] = {"Propagation": "rprivate", "CreateMountpoint": False}
    return body


def build_home_preparation(account: Account, *, instance: str, image_id: str) -> dict[str, Any]:
    """Return the create body of the one-shot container that prepares a new home volume.

    Docker copies the image's home (examples) into a new volume; this container gives the files to ``account.uid``.
    """
    return {
        "Image": image_id,
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": [_PREPARE_HOME],
        "User": "0:0",
        # the image's own PATH begins in the home: this root must run no program of a user
        "Env": [f"OWNER={account.uid}", "PATH=/usr/bin:/bin"],
        "Labels": {
            LABEL_INSTANCE: instance,
            LABEL_ROLE: ROLE_PREPARE_HOME,
            LABEL_USER: account.user,
            LABEL_UID: str(account.uid),
        },
        "HostConfig": {
            **hardening(pids=64),
            "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
            "NetworkMode": "none",
            "Mounts": [_home_mount(instance, account)],
        },
    }


def _tmpfs(uid: int) -> dict[str, str]:
    """Return the folders outside the home in which a server may write; their files count as its memory."""
    own = f"mode=0755,uid={uid},gid={uid}"
    return {
        # none over /run: CDI mounts the driver's sockets there, and a tmpfs would hide them
        # exec: PyTorch compiles and loads kernels under /tmp, and Docker's default is noexec
        "/tmp": "rw,exec,nosuid,nodev,mode=1777,size=8g",  # noqa: S108
        "/var/tmp": "rw,exec,nosuid,nodev,mode=1777,size=1g",  # noqa: S108
        "/var/lib/extrausers": f"rw,noexec,nosuid,nodev,{own},size=64k",  # the entrypoint's passwd
    }


def hardening(pids: int) -> dict[str, Any]:
    """Return the part of ``HostConfig`` that every container has."""
    return {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        # with a tmpfs where programs write, no user can fill the file system of the host's containers
        "ReadonlyRootfs": True,
        # no core files in homes; open files have the daemon's own limit, which no container can raise
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "PidsLimit": pids,
        "LogConfig": _LOGS,
        "RestartPolicy": {"Name": "no"},
    }


def _terminals_mount() -> dict[str, Any]:
    """Return the mount that bounds the pseudo terminals of a server; Linux counts those of the whole host otherwise."""
    options = f"nosuid,noexec,newinstance,max={MAX_TERMINALS},ptmxmode=0666,mode=0620,gid=5"
    driver = {"Name": "local", "Options": {"type": "devpts", "device": "devpts", "o": options}}
    # without a name, so that it goes with its container
    return {
        "Type": "volume",
        "Target": "/dev/pts",
        "VolumeOptions": {"NoCopy": True, "DriverConfig": driver},
    }


def _home_mount(instance: str, account: Account) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": names.home_volume(instance, account.user, account.uid),
        "Target": HOME,
        "VolumeOptions": {"Labels": {LABEL_INSTANCE: instance, LABEL_USER: account.user}},
    }
