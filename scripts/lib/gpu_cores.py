"""Prints "UUID CORES" for each GPU, a number that nvidia-smi lacks; prints nothing where NVML does not know it.

Standard library only, for a host on which nothing is installed.
"""

from __future__ import annotations

import ctypes
import sys

SUCCESS = 0


def main() -> None:
    """Ask the driver's own library."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return
    count = ctypes.c_uint()
    if nvml.nvmlInit_v2() != SUCCESS or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != SUCCESS:
        return
    for index in range(count.value):
        device, cores = ctypes.c_void_p(), ctypes.c_uint()
        uuid = ctypes.create_string_buffer(96)
        answers = (
            nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)),
            nvml.nvmlDeviceGetUUID(device, uuid, len(uuid)),
            nvml.nvmlDeviceGetNumGpuCores(device, ctypes.byref(cores)),
        )
        if all(answer == SUCCESS for answer in answers):
            sys.stdout.write(f"{uuid.value.decode()} {cores.value}\n")


if __name__ == "__main__":
    main()
