"""GPU nodes: the CDI specification of nvidia-ctk says which MIG instance is part of which GPU."""

from pathlib import Path

from spawner.broker.gpu_nodes import get_related_gpu, read_gpu_nodes

SPECIFICATION = """---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits: {deviceNodes: [{path: /dev/nvidiactl}]}
devices:
- name: GPU-a
  containerEdits: {deviceNodes: [{path: /dev/nvidia0}, {path: /dev/dri/card1}]}
- name: MIG-a1
  containerEdits:
    deviceNodes: [{path: /dev/nvidia0}, {path: /dev/nvidia-caps/nvidia-cap21}]
- name: GPU-b
  containerEdits: {deviceNodes: [{path: /dev/nvidia1}]}
"""


def test_nodes_are_read_and_what_cannot_be_read_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "nvidia.yaml").write_text(SPECIFICATION)
    (tmp_path / "other.json").write_text('{"kind": "vendor.com/net", "devices": []}')
    (tmp_path / "broken.yaml").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    nodes = read_gpu_nodes((tmp_path, tmp_path / "missing"))
    assert nodes == {
        "GPU-a": frozenset({"/dev/nvidia0"}),
        "MIG-a1": frozenset({"/dev/nvidia0"}),
        "GPU-b": frozenset({"/dev/nvidia1"}),
    }
    assert get_related_gpu(["GPU-a"], ["MIG-a1"], nodes) == "GPU-a"
    assert get_related_gpu(["MIG-a1"], ["GPU-b", "GPU-a"], nodes) == "MIG-a1"
    assert get_related_gpu(["MIG-a1"], ["MIG-a1"], nodes) is None
    assert get_related_gpu(["GPU-b"], ["MIG-a1", "GPU-unknown"], nodes) is None
