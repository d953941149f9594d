"""NPZ bodies: requests in NumPy's format for inputs too large for JSON, one array per input.

Sizes and types are read before any data, so that a small body cannot allocate much memory.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from workbench_toolkit.export.contract import TensorSpec
from workbench_toolkit.export.inputs import Array
from workbench_toolkit.serve.refusal import Reason, Refusal

MEDIA_TYPE = "application/x-npz"
_HEADER_BYTES = 4096


class NpzBodies:
    """Validates ``.npz`` bodies of one model and converts them to arrays."""

    def __init__(self, inputs: Sequence[TensorSpec], max_rows: int) -> None:
        self._inputs = inputs
        self._max_rows = max_rows

    def parse(self, body: bytes) -> list[Array]:
        """Return the arrays of ``body`` in the contract's order; raises Refusal."""
        try:
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                arrays = self._arrays(archive)
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001 - damaged bytes make zipfile and NumPy raise nearly any type
            message = str(error).partition("\n")[0]
            raise Refusal(
                Reason.BODY, f"The body is not a readable .npz: {message}"[:200] + "."
            ) from None
        if len({len(array) for array in arrays}) != 1:
            raise Refusal(Reason.INPUT, "All arrays need the same number of rows.")
        return arrays

    def _arrays(self, archive: zipfile.ZipFile) -> list[Array]:
        if sorted(archive.namelist()) != sorted(f"{spec.name}.npy" for spec in self._inputs):
            wanted = ", ".join(spec.name for spec in self._inputs)
            raise Refusal(Reason.INPUT, f"The .npz must hold exactly these arrays: {wanted}.")
        return [self._array(archive, spec) for spec in self._inputs]

    def _array(self, archive: zipfile.ZipFile, spec: TensorSpec) -> Array:
        row_bytes = int(np.prod(spec.shape[1:])) * np.dtype(spec.dtype).itemsize
        member = archive.getinfo(f"{spec.name}.npy")
        if member.file_size > self._max_rows * row_bytes + _HEADER_BYTES:
            raise Refusal(
                Reason.INPUT,
                f"{spec.name} is larger than {self._max_rows} rows: send fewer rows at a time.",
            )
        with archive.open(member) as file:
            data = file.read(member.file_size)  # a member may be longer than declared
        shape, dtype = _header(data)
        rows = shape[0] if shape else 0
        if shape[1:] != spec.shape[1:] or dtype != spec.dtype or not 0 < rows <= self._max_rows:
            raise Refusal(
                Reason.INPUT,
                f"{spec.name} is {list(shape)} {dtype}: it must be {spec}, of 1 to {self._max_rows} rows.",
            )
        array: Array = np.load(io.BytesIO(data), allow_pickle=False)
        _check_values(spec, array)
        return array


def encode(outputs: Mapping[str, Array]) -> bytes:
    """Return ``outputs`` as the bytes of an ``.npz`` file."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **outputs)
    return file.getvalue()


def _header(data: bytes) -> tuple[tuple[int, ...], str]:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    return shape, dtype.name if dtype.isnative else dtype.str


def _check_values(spec: TensorSpec, array: Array) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Refusal(Reason.INPUT, f"{spec.name} holds NaN or infinity: send finite numbers.")
    if spec.below is not None and not 0 <= int(array.min()) <= int(array.max()) < spec.below:
        raise Refusal(Reason.INPUT, f"{spec.name} holds numbers outside 0 … {spec.below - 1}.")
