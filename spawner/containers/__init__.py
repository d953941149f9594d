"""Asks the Docker Engine, through the broker, about and for this instance's containers.

Only the daemon's own "No such container" is absence; every other failure to answer is ``Unknown``.
"""

from spawner.containers.client import Timeouts, Containers, ContainerStatus, ListedServer
from spawner.containers.events import ContainerEnd, EventGap

__all__ = ["Timeouts", "ContainerStatus", "Containers", "ContainerEnd", "EventGap", "ListedServer"]
