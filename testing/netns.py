"""A network of its own for a whole workbench: this process, and what it starts, see no other.

Every port and every loopback address is free there, and names are asked for at Docker's usual address. Needs root.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testing.fakes.name_server import ADDRESS

_NEW_FILES, _NEW_MOUNTS, _NEW_NETWORK = 0x200, 0x20000, 0x40000000
_SET_FLAGS, _UP = 0x8914, 0x1
_NAMES = "/etc/resolv.conf"
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def enclosed(folder: Path) -> Iterator[None]:
    """Be in a network, and see a ``resolv.conf``, that end with the block; call it from the main thread."""
    outside = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
    _do(_libc.unshare, _NEW_FILES | _NEW_MOUNTS | _NEW_NETWORK)
    try:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        names = folder / "resolv.conf"
        names.write_text(f"nameserver {ADDRESS}\noptions ndots:0\n")
        subprocess.run(["mount", "--bind", str(names), os.path.realpath(_NAMES)], check=True)
        _raise_loopback()
        yield
    finally:
        # threads that were started meanwhile share what may not be shared when the mounts change
        _do(_libc.unshare, _NEW_FILES)
        for descriptor in outside:
            _do(_libc.setns, descriptor, 0)
            os.close(descriptor)


def _do(call: Callable[..., int], *arguments: int) -> None:
    if call(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: the network of a test needs root")


def _raise_loopback() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", _UP))
