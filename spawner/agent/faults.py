"""Xid listener: records the fatal Xid errors that the driver reports.

One thread waits for NVML's Xid events. A GPU without event support never reports one.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from nvitop import Device, libnvml

from spawner.agent.nvml_query import query
from spawner.agent.readings import Xid

log = logging.getLogger(__name__)

APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Xids that an application causes: the GPU stays healthy, and the next application runs.

The source is NVIDIA's Xid catalog, docs.nvidia.com/deploy/xid-errors.
They are: 13 graphics engine exception, 31 memory
page fault, 43 GPU stopped processing, 45 preemptive cleanup, 68 video processor exception, 109 context switch
timeout.
"""

WAIT_MILLISECONDS = 1000
"""Maximum length of one wait inside NVML."""

_PAUSE_SECONDS = 1


class XidListener:
    """Listener for Xid events; it keeps the last fatal Xid of each GPU."""

    def __init__(self) -> None:
        self._last: dict[str, Xid] = {}
        self._uuids: dict[int, str] = {}  # by the address of the NVML handle
        self._events: Any = None

    def listen(self, devices: Mapping[str, Device]) -> None:
        """Register these GPUs, given by UUID; a GPU without event support is skipped."""
        is_first = self._events is None
        for uuid, device in devices.items():
            address = _address(device.handle)
            if address not in self._uuids and self._register(device):
                self._uuids[address] = uuid
        if is_first and self._events is not None:
            threading.Thread(target=self._receive, name="xids", daemon=True).start()

    def _register(self, device: Device) -> bool:
        wanted = libnvml.nvmlEventTypeXidCriticalError
        try:
            supported = query(device, "nvmlDeviceGetSupportedEventTypes") or 0
            if not supported & wanted:
                return False
            if self._events is None:
                self._events = libnvml.nvmlQuery("nvmlEventSetCreate", ignore_errors=False)
            libnvml.nvmlQuery(
                "nvmlDeviceRegisterEvents", device.handle, wanted, self._events, ignore_errors=False
            )
        except libnvml.NVMLError:
            return False
        return True

    def last_fatal(self) -> Mapping[str, Xid]:
        """Return the last fatal Xid of each GPU that had one, by UUID."""
        return dict(self._last)

    def _receive(self) -> None:
        """Receive events until NVML is closed; nvitop's own calls would reopen it."""
        while True:
            try:
                event = libnvml.nvmlEventSetWait_v2(self._events, WAIT_MILLISECONDS)
                uuid = self._uuids.get(_address(event.device))
                self._record(uuid or libnvml.nvmlDeviceGetUUID(event.device), int(event.eventData))
            except libnvml.NVMLError_Timeout:
                continue
            except libnvml.NVMLError_Uninitialized:
                return
            except (
                libnvml.NVMLError
            ):  # such as a lost GPU; the next wait may return an event of another
                time.sleep(_PAUSE_SECONDS)

    def _record(self, uuid: str, number: int) -> None:
        if number not in APPLICATION_XIDS:
            log.warning("gpu=%s state=failed reason=xid_%s", uuid, number)
            self._last[uuid] = Xid(number, time.time())


def _address(handle: Any) -> int:  # noqa: ANN401 a ctypes pointer
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
