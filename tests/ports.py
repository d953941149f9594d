"""Ports for servers that tests start."""

import random
import socket

# below the ports that the kernel gives to clients, one of which could take ours before we listen
RANGE = range(20000, 32000)


def free_port() -> int:
    """Return a port on which nobody listens now."""
    for port in random.sample(RANGE, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"a hundred ports of {RANGE} are taken")
