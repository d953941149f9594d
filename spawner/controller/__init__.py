"""What moves: grants in turn, starts and ends of servers, ill GPUs, orders of admins, and what an earlier hub left."""

from spawner.controller.controller import Controller

__all__ = ["Controller"]
