"""Asks the Docker Engine, through the broker, about and for this instance's containers.

Only the daemon's own "No such container" is absence; every other failure to answer is ``Unknown``.
"""

from spawner.containers.client import Bounds, Containers, ContainerStatus, Listed
from spawner.containers.events import Ended, Gap

__all__ = ["Bounds", "ContainerStatus", "Containers", "Ended", "Gap", "Listed"]
