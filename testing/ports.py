"""Ports for servers that tests start."""

import random
import socket

# below the ports that the kernel gives to clients, one of which could take ours before we listen
RANGE = range(20000, 32000)
_ours: list[socket.socket] = []


def free_port() -> int:
    """Return a port without a listener, which no other running test is given."""
    for port in random.sample(RANGE, 100):
        # a name of the machine's, held as long as this process runs
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0workbench-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        _ours.append(mark)
        return port
    raise AssertionError(f"a hundred ports of {RANGE} are taken")
