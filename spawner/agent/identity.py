"""Finds out which GPUs there are: who each is, how it is divided, and how it stands to the others.

Asked when the agent starts, and again only for a GPU that could not say who it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nvitop import Device, MigDevice, PhysicalDevice, libnvml

from spawner.agent.nvml_query import query, value_or_none
from spawner.agent.readings import GpuIdentity, MigInstance

_PROFILE = re.compile(r" MIG ((?:\dc\.)?\dg\.\d+gb(?:[+-][a-z.]+)*)(?= |$)")


@dataclass(frozen=True)
class IdentifiedGpu:
    """A GPU that said who it is; ``instances`` are in the order of its identity's.

    ``unknown_instances`` are the numbers of MIG instances that did not say who they are.
    """

    identity: GpuIdentity
    device: PhysicalDevice
    instances: tuple[MigDevice, ...]
    unknown_instances: tuple[int, ...]


def identify_gpus(devices: Sequence[PhysicalDevice]) -> Iterator[IdentifiedGpu]:
    """Yield those of all the host's GPUs that can say who they are."""
    groups = _group_by_nvlink(devices)
    for device in devices:
        uuid, name = value_or_none(device.uuid()), value_or_none(device.name())
        if uuid is None or name is None:
            continue
        try:
            yield _identify(device, uuid, name, groups.get(device.index))
        except libnvml.NVMLError_GpuIsLost:  # between two questions
            continue


def _identify(device: PhysicalDevice, uuid: str, name: str, nvlink_group: int | None) -> IdentifiedGpu:
    capability, mig_mode = value_or_none(device.cuda_compute_capability()), value_or_none(device.mig_mode())
    asked = [(_identify_instance(mig), mig) for mig in _mig_devices(device)]
    return IdentifiedGpu(
        GpuIdentity(
            uuid=uuid,
            index=device.index,
            name=name,
            memory_total_bytes=_memory_total_bytes(device),
            compute_capability=capability and "{}.{}".format(*capability),
            pci_bus_id=value_or_none(device.bus_id()),
            mig_mode=mig_mode and mig_mode.lower(),
            numa_node=_numa_node(device),
            nvlink_group=nvlink_group,
            mig_instances=tuple(instance for instance, _ in asked if instance is not None),
        ),
        device,
        instances=tuple(mig for instance, mig in asked if instance is not None),
        unknown_instances=tuple(mig.mig_index for instance, mig in asked if instance is None),
    )


def _memory_total_bytes(device: Device) -> int | None:
    memory = query(device, "nvmlDeviceGetMemoryInfo")
    return None if memory is None else int(memory.total)


def _mig_devices(device: PhysicalDevice) -> Iterator[MigDevice]:
    """Every MIG instance; nvitop's own ``mig_devices`` stops at the first number that is not taken."""
    if not device.is_mig_mode_enabled():
        return
    for number in range(device.max_mig_device_count()):
        try:
            yield device.mig_device(number)
        except libnvml.NVMLError:
            continue


def _identify_instance(mig: MigDevice) -> MigInstance | None:
    """Return who it is; None when it cannot say so.

    Its profile stands in its name, as in ``NVIDIA A100-SXM4-80GB MIG 1g.10gb``.
    """
    uuid, profile = value_or_none(mig.uuid()), _PROFILE.search(value_or_none(mig.name()) or "")
    if uuid is None or profile is None:
        return None
    return MigInstance(uuid, mig.mig_index, profile[1], _memory_total_bytes(mig))


def _numa_node(device: PhysicalDevice) -> int | None:
    """Return the one node whose memory is next to the GPU.

    ``nvmlDeviceGetNumaNodeId`` is something else: the node that a GPU's own memory is on some machines.
    """
    words = query(device, "nvmlDeviceGetMemoryAffinity", 1, libnvml.NVML_AFFINITY_SCOPE_NODE)
    nodes = 0 if words is None else int(words[0])
    return nodes.bit_length() - 1 if nodes.bit_count() == 1 else None


def _group_by_nvlink(devices: Sequence[PhysicalDevice]) -> dict[int, int]:
    """Return each GPU's group by index: whom NVLinks join, directly or over others or switches."""
    group_of: dict[int, int] = {}
    for device in devices:
        for other in devices:
            if device.index < other.index and _is_joined(device, other):
                mine = group_of.setdefault(device.index, device.index)
                theirs = group_of.setdefault(other.index, other.index)
                joined = min(mine, theirs)
                group_of = {
                    index: joined if group in (mine, theirs) else group
                    for index, group in group_of.items()
                }
    return group_of


def _is_joined(device: PhysicalDevice, other: PhysicalDevice) -> bool:
    if device.handle is None or other.handle is None:
        return False
    try:
        status = query(
            device, "nvmlDeviceGetP2PStatus", other.handle, libnvml.NVML_P2P_CAPS_INDEX_NVLINK
        )
    except libnvml.NVMLError_GpuIsLost:
        return False
    return bool(status == libnvml.NVML_P2P_STATUS_OK)
