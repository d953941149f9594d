"""CDI: the specification that names a machine's GPUs, as nvidia-ctk writes it."""

A = "GPU-aaaaaaaa-0000-4000-8000-000000000000"
B = "GPU-bbbbbbbb-0000-4000-8000-000000000000"


def specification(*uuids: str) -> str:
    devices = "".join(
        f"- containerEdits:\n    deviceNodes: []\n  name: {uuid}\n" for uuid in (*uuids, "all")
    )
    return f"cdiVersion: 0.5.0\ncontainerEdits: {{}}\ndevices:\n{devices}kind: nvidia.com/gpu\n"
