"""Request bodies: exact arrays for valid bytes, a refusal for all others."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench_toolkit.export.contract import TensorSpec
from workbench_toolkit.serve.npz import NpzBodies
from workbench_toolkit.serve.refusal import Reason, Refusal
from workbench_toolkit.serve.schema import JsonBodies

TICKET = TensorSpec("ticket", (-1,), "int64")
JSON = JsonBodies([TICKET], max_rows=32)
NPZ = NpzBodies([TICKET], max_rows=32)
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def json_body(ticket: str) -> bytes:
    return f'{{"instances": [{{"ticket": {ticket}}}]}}'.encode()


@pytest.mark.parametrize(
    "ticket",
    [
        "9223372036854775807",
        "-9223372036854775808",
        "9007199254740993",
        "3.0",
        "9007199254740991.0",
    ],
)
def test_whole_numbers_arrive_exactly(ticket: str) -> None:
    assert JSON.parse(json_body(ticket))[0].tolist() == [int(ticket.removesuffix(".0"))]


@pytest.mark.parametrize(
    ("ticket", "said"),
    [
        ("9223372036854775808", "less than or equal to 9223372036854775807"),
        ("-9223372036854775809", "greater than or equal to -9223372036854775808"),
        ("9" * 400, "less than or equal to 9223372036854775807"),
        ("9223372036854775807.0", "valid integer"),
        ("9007199254740993.0", "valid integer"),
        ("-9007199254740993.0", "valid integer"),
        ("1e300", "valid integer"),
    ],
)
def test_whole_numbers_that_do_not_fit_are_refused(ticket: str, said: str) -> None:
    with pytest.raises(Refusal, match=said) as refused:
        JSON.parse(json_body(ticket))

    assert refused.value.reason is Reason.INPUT


def array_bytes(header: str | None = None) -> bytes:
    """Return three tickets as an ``.npy`` file, with another ``header`` if given."""
    file = io.BytesIO()
    np.save(file, np.arange(3))
    if header is None:
        return file.getvalue()
    return (
        b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode("latin-1") + b"\0" * 24
    )


def npz_body(array: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("ticket.npy", array)
    return file.getvalue()


def parse_or_refuse(body: bytes) -> None:
    try:
        assert NPZ.parse(body)[0].dtype == "int64"
    except Refusal as refusal:
        assert refusal.reason in {Reason.BODY, Reason.INPUT}
        assert len(str(refusal).splitlines()) == 1


@pytest.mark.parametrize("method", METHODS)
def test_an_npz_may_be_compressed(method: int) -> None:
    assert NPZ.parse(npz_body(array_bytes(), method))[0].tolist() == [0, 1, 2]


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(
    method=st.sampled_from(METHODS),
    changes=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=5
    ),
)
def test_damaged_bytes_are_read_or_refused(method: int, changes: list[tuple[int, int]]) -> None:
    body = bytearray(npz_body(array_bytes(), method))
    for place, change in changes:
        body[place % len(body)] ^= change
    parse_or_refuse(bytes(body))


HEADER = "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }\n"


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(
    st.integers(0, len(HEADER)), st.integers(0, 3), st.text("{}[]()'\",:\n #0L1eE-+x", max_size=3)
)
def test_a_damaged_header_is_read_or_refused(place: int, removed: int, added: str) -> None:
    parse_or_refuse(npz_body(array_bytes(HEADER[:place] + added + HEADER[place + removed :])))


@pytest.mark.parametrize(
    "header",
    [
        "{",
        "  a\n b\n",
        "{[]: 1}",
        HEADER.replace("(3,)", "(True,)"),
        HEADER.replace("(3,)", "(03,)"),
        "(" * 3000,
    ],
)
def test_a_header_that_numpy_chokes_on_is_refused(header: str) -> None:
    with pytest.raises(Refusal, match=r"not a readable \.npz") as refused:
        NPZ.parse(npz_body(array_bytes(header)))

    assert refused.value.reason is Reason.BODY


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_body_that_lies_about_its_size_gets_no_memory(method: int) -> None:
    true, said = (100_000_000).to_bytes(4, "little"), (200).to_bytes(4, "little")
    body = npz_body(bytes(100_000_000), method)
    assert body.count(true) == 2

    tracemalloc.start()
    try:
        parse_or_refuse(body.replace(true, said))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
