"""The name server of the fake Docker answers as Docker's does."""

import socket
import struct

import pytest

from testing.fakes.name_server import build_answer

A, AAAA = 1, 28
NO_ERROR, NO_SUCH_NAME = 0, 3


def query(name: str, kind: int, addresses: dict[str, str]) -> tuple[int, list[str]]:
    """Return the response code and the addresses of the answer."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\0" + struct.pack(">HH", kind, 1)
    # with an additional record, as c-ares sends one
    query = struct.pack(">HHHHHH", 4711, 0x0100, 1, 0, 0, 1) + question + b"\0\0\x29" + b"\0" * 8
    answer = build_answer(query, addresses)
    query_id, flags, questions, answers, *_ = struct.unpack_from(">HHHHHH", answer)
    assert (query_id, flags & 0x8000, questions) == (4711, 0x8000, 1)
    assert answer[12 : 12 + len(question)] == question
    records = answer[12 + len(question) :]
    assert len(records) == 16 * answers
    return flags & 0xF, [
        socket.inet_ntoa(records[i + 12 : i + 16]) for i in range(0, len(records), 16)
    ]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("hub", A, (NO_ERROR, ["127.0.1.1"])),
        ("HUB", A, (NO_ERROR, ["127.0.1.1"])),
        ("hub", AAAA, (NO_ERROR, [])),
        ("hub.example", A, (NO_SUCH_NAME, [])),
        ("gone", A, (NO_SUCH_NAME, [])),
    ],
)
def test_a_name_has_the_address_it_was_given(
    name: str, kind: int, expected: tuple[int, list[str]]
) -> None:
    assert query(name, kind, {"hub": "127.0.1.1"}) == expected
