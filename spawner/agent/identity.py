"""GPU identity: reads the UUID, MIG instances, NUMA node and NVLink group of each GPU.

The agent reads them at its start, and again only while a GPU has no UUID.
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
    """A GPU with a known identity; ``instances`` has the order of ``identity.mig_instances``.

    ``unknown_instances`` are the numbers of MIG instances without a UUID or profile.
    """

    identity: GpuIdentity
    device: PhysicalDevice
    instances: tuple[MigDevice, ...]
    unknown_instances: tuple[int, ...]


def identify_gpus(devices: Sequence[PhysicalDevice]) -> Iterator[IdentifiedGpu]:
    """Yield the GPUs among ``devices`` that have a UUID and a name; ``devices`` are all GPUs of the host."""
    groups = _group_by_nvlink(devices)
    for device in devices:
        uuid, name = value_or_none(device.uuid()), value_or_none(device.name())
        if uuid is None or name is None:
            continue
        try:
            yield _identify(device, uuid, name, groups.get(device.index))
        except libnvml.NVMLError_GpuIsLost:  # lost between two queries
            continue


def _identify(
    device: PhysicalDevice, uuid: str, name: str, nvlink_group: int | None
) -> IdentifiedGpu:
    capability, mig_mode = (
        value_or_none(device.cuda_compute_capability()),
        value_or_none(device.mig_mode()),
    )
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
    """Yield every MIG instance; nvitop's ``mig_devices`` stops at the first free number."""
    if not device.is_mig_mode_enabled():
        return
    for number in range(device.max_mig_device_count()):
        try:
            yield device.mig_device(number)
        except libnvml.NVMLError:
            continue


def _identify_instance(mig: MigDevice) -> MigInstance | None:
    """Return the identity of a MIG instance, or None without a UUID or profile.

    The profile is part of the name, as in ``NVIDIA A100-SXM4-80GB MIG 1g.10gb``.
    """
    uuid, profile = value_or_none(mig.uuid()), _PROFILE.search(value_or_none(mig.name()) or "")
    if uuid is None or profile is None:
        return None
    return MigInstance(uuid, mig.mig_index, profile[1], _memory_total_bytes(mig))


def _numa_node(device: PhysicalDevice) -> int | None:
    """Return the NUMA node closest to the GPU, or None if there is not exactly one.

    ``nvmlDeviceGetNumaNodeId`` differs: it is the node of the GPU's own memory on machines that expose it.
    """
    words = query(device, "nvmlDeviceGetMemoryAffinity", 1, libnvml.NVML_AFFINITY_SCOPE_NODE)
    nodes = 0 if words is None else int(words[0])
    return nodes.bit_length() - 1 if nodes.bit_count() == 1 else None


def _group_by_nvlink(devices: Sequence[PhysicalDevice]) -> dict[int, int]:
    """Return the NVLink group of each GPU by index: GPUs with a direct, transitive or switched link."""
    group_of: dict[int, int] = {}
    for device in devices:
        for other in devices:
            if device.index < other.index and _is_joined(device, other):
                first = group_of.setdefault(device.index, device.index)
                second = group_of.setdefault(other.index, other.index)
                joined = min(first, second)
                group_of = {
                    index: joined if group in (first, second) else group
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
