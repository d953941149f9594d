"""The controller: runs the lease protocol, from the queue to the end of a server, and recovers it at each hub start."""

from spawner.controller.controller import Controller

__all__ = ["Controller"]
