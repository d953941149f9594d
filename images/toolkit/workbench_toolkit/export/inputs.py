"""Example inputs: random values for a description, or arrays from a file.

The first dimension of every array counts rows; all arrays of one export have the same number of rows.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from workbench_toolkit.errors import ToolError
from workbench_toolkit.export.contract import DTYPES, NAME, TensorSpec

Array: TypeAlias = NDArray[np.generic]

_DESCRIPTION = re.compile(
    r"(?P<name>[^=]+)=(?P<sizes>\d+(x\d+)*)(:(?P<dtype>[a-z]+\d*)(:(?P<below>\d+))?)?"
)


def example_inputs(
    descriptions: Sequence[str], seed: int
) -> tuple[tuple[TensorSpec, ...], dict[str, Array]]:
    """Return the specifications and values for the ``--input`` arguments; raises ToolError.

    An argument is ``NAME=64x784[:DTYPE[:BELOW]]``, or one ``.npz`` or ``.pt`` file with all inputs by name.
    """
    if len(descriptions) == 1 and descriptions[0].endswith((".npz", ".pt")):
        arrays = _read(Path(descriptions[0]))
        specs = tuple(_spec(name, array) for name, array in arrays.items())
    else:
        specs, arrays = _draw(descriptions, seed)
    rows = {array.shape[0] for array in arrays.values()}
    if len(rows) != 1 or 0 in rows or any(array.size == 0 for array in arrays.values()):
        raise ToolError("Give every input the same number of rows, at least one, and no size of 0.")
    return specs, arrays


def resize(arrays: Mapping[str, Array], rows: int) -> dict[str, Array]:
    """Return ``rows`` rows from the given ones; a repeated row is rolled, so that it differs from the first."""
    return {name: _resize(array, rows) for name, array in arrays.items()}


def _resize(array: Array, rows: int) -> Array:
    given = array.shape[0]
    made = [
        np.roll(array[row % given], row // given, axis=-1) if array.ndim > 1 else array[row % given]
        for row in range(rows)
    ]
    return np.stack(made)


def _draw(
    descriptions: Sequence[str], seed: int
) -> tuple[tuple[TensorSpec, ...], dict[str, Array]]:
    generator = np.random.default_rng(seed)
    specs, arrays = [], {}
    for word in descriptions:
        match = _DESCRIPTION.fullmatch(word)
        dtype = (match["dtype"] or "float32") if match else ""
        if not match or not NAME.fullmatch(match["name"]) or dtype not in DTYPES:
            raise ToolError(
                f'"{word}" is not an input: write NAME=64x784:float32, rows first, with one of '
                f"{', '.join(DTYPES)}; or give one .npz or .pt file."
            )
        below = _bound(word, dtype, match["below"])
        sizes = tuple(int(size) for size in match["sizes"].split("x"))
        specs.append(TensorSpec(match["name"], (-1, *sizes[1:]), dtype, below))
        if dtype.startswith("float"):
            arrays[match["name"]] = generator.standard_normal(sizes).astype(dtype)
        else:
            arrays[match["name"]] = generator.integers(0, below or 2, sizes).astype(dtype)
    if len(arrays) != len(specs):
        raise ToolError("Two inputs have the same name: give each its own.")
    return tuple(specs), arrays


def _bound(word: str, dtype: str, below: str | None) -> int | None:
    if below is None:
        return None
    if "int" not in dtype or not 0 < int(below) <= np.iinfo(dtype).max:
        raise ToolError(
            f'"{word}": the last number is a bound for integers: give it only for an integer type, from 1 on.'
        )
    return int(below)


def _spec(name: str, array: Array) -> TensorSpec:
    if not NAME.fullmatch(name) or array.ndim == 0 or array.dtype.name not in DTYPES:
        raise ToolError(
            f'"{name}" in the file cannot be an input ({array.dtype.name}): it needs a name of letters and digits, '
            f"a first dimension for rows, and one of {', '.join(DTYPES)}."
        )
    return TensorSpec(name, (-1, *array.shape[1:]), array.dtype.name)


def _read(path: Path) -> dict[str, Array]:
    try:
        return _read_npz(path) if path.suffix == ".npz" else _read_pt(path)
    except FileNotFoundError:
        raise ToolError(f"{path} does not exist.") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ToolError(f"{path} cannot be read as example inputs: {error}") from None


def _read_npz(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _read_pt(path: Path) -> dict[str, Array]:
    import pickle

    import torch

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(str(error).splitlines()[0]) from None
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in tensors.items()
    ):
        raise ValueError("it is not a dict of tensors by name")
    return {name: tensor.numpy() for name, tensor in tensors.items()}
