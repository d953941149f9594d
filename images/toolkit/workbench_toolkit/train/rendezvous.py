"""Loopback rendezvous: joins the processes of one training through a store on 127.0.0.1.

torchrun's own stores listen on every address of the container, without a password, and its rendezvous loads pickles
from them. Here the launcher's state stays in memory, and the processes' store gets a listener on loopback.
"""

from __future__ import annotations

import socket

from torch.distributed import HashStore, TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)

BACKEND = "loopback"
"""The name for ``--rdzv-backend``."""

LOOPBACK = "127.0.0.1"
BACKLOG = 512


class LoopbackRendezvous(RendezvousHandler):
    """The rendezvous of a single launcher."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        listener = socket.create_server((LOOPBACK, 0), backlog=BACKLOG)
        self._port: int = listener.getsockname()[1]
        # without a listener, TCPStore listens on all addresses, whatever its host argument is
        self._served = TCPStore(
            LOOPBACK,
            self._port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
            use_libuv=False,  # the default implementation takes no listener
        )
        self._launcher = HashStore()

    @property
    def use_agent_store(self) -> bool:
        """True: the training's processes are clients of this store, and rank 0 opens no other."""
        return True

    def get_backend(self) -> str:
        """Return the name of this kind of rendezvous."""
        return BACKEND

    def next_rendezvous(self) -> RendezvousInfo:
        """Return the launcher as the only member, and the store's address for its processes."""
        address = RendezvousStoreInfo(LOOPBACK, self._port)
        return RendezvousInfo(self._launcher, 0, 1, address)

    def is_closed(self) -> bool:
        """Return False: the rendezvous lives as long as its launcher."""
        return False

    def set_closed(self) -> None:
        """Do nothing: there is no other launcher."""

    def num_nodes_waiting(self) -> int:
        """Return 0: no other launcher can join."""
        return 0

    def get_run_id(self) -> str:
        """Return the run's id."""
        return self._run_id

    def shutdown(self) -> bool:
        """Return True: the store ends with its process."""
        return True


def register() -> None:
    """Make ``--rdzv-backend=loopback`` known to torchrun in this process."""
    rendezvous_handler_registry.register(BACKEND, _create)


def _create(parameters: RendezvousParameters) -> LoopbackRendezvous:
    return LoopbackRendezvous(parameters.run_id)
