"""A name server that answers as Docker's own does inside a container: addresses of containers, and nothing else."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from typing import Any

ADDRESS = "127.0.0.11"
PORT = 53
SECONDS = 600  # for as long Docker lets an address be remembered
_A = 1
_HEADER = struct.Struct(">HHHHHH")
_ANSWERED = 0x8180  # a response; recursion desired and available
_NO_SUCH_NAME = 3


class NameServer(asyncio.DatagramProtocol):
    """Answers from ``addresses`` as it is at that moment."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        """Know no other name."""
        self._addresses = addresses

    def connection_made(self, transport: Any) -> None:
        """Remember how to answer."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        self._transport.sendto(build_answer(data, self._addresses), addr)


def build_answer(query: bytes, addresses: Mapping[str, str]) -> bytes:
    """Return the answer to the first question of ``query``; a name without an address of the kind has none."""
    labels, at = [], _HEADER.size
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    (kind,) = struct.unpack_from(">H", query, at + 1)
    question = query[_HEADER.size : at + 5]
    address = addresses.get(".".join(labels).lower())
    records = b""
    if address is not None and kind == _A:
        # the name is the question's
        records = struct.pack(">HHHIH", 0xC00C, _A, 1, SECONDS, 4) + socket.inet_aton(address)
    flags = _ANSWERED if address is not None else _ANSWERED | _NO_SUCH_NAME
    query_id = int.from_bytes(query[:2], "big")
    return _HEADER.pack(query_id, flags, 1, bool(records), 0, 0) + question + records
