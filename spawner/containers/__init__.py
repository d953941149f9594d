"""Containers: creates, inspects and removes this instance's containers through the broker.

Only the daemon's own "No such container" proves absence; every other missing answer is ``Unknown``.
"""

from spawner.containers.client import Containers, ContainerStatus, HomeList, ListedServer, Timeouts
from spawner.containers.events import ContainerEnd, EventGap

__all__ = [
    "ContainerEnd",
    "ContainerStatus",
    "Containers",
    "EventGap",
    "HomeList",
    "ListedServer",
    "Timeouts",
]
