"""Model contract: ``model.json``, written by ``wb export`` and read by ``wb serve``.

Every shape begins with -1, the number of rows, which each request chooses; all other sizes are fixed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench_toolkit.errors import ToolError

CONTRACT_FILE = "model.json"
FORMAT = 1
KINDS = {"torchscript": "model.pt", "onnx": "model.onnx"}
"""The file name of each kind of exported model, in the order of preference of ``wb serve``."""

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
"""The common element types of PyTorch, ONNX and NumPy."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The allowed names of inputs and outputs."""


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output; ``below``: integers are in 0 … below - 1, None: in the type's whole range."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    below: int | None = None

    def __str__(self) -> str:
        """Return for example ``images [-1, 784] float32``."""
        bound = "" if self.below is None else f" below {self.below}"
        return f"{self.name} {list(self.shape)} {self.dtype}{bound}"


@dataclasses.dataclass(frozen=True)
class Contract:
    """An exported model; ``files``: each file's SHA-256 by kind, the model file first."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: Mapping[str, Mapping[str, str]]
    rows_independent: bool
    torch: str

    @property
    def version(self) -> str:
        """The version of this export: the first 12 digits of its first file's SHA-256."""
        first = next(iter(self.files.values()))
        return next(iter(first.values()))[:12]

    def write(self, folder: Path) -> None:
        """Write ``model.json`` into ``folder``."""
        text = json.dumps({"format": FORMAT} | dataclasses.asdict(self), indent=2)
        (folder / CONTRACT_FILE).write_text(text + "\n", encoding="utf-8")


def read_contract(folder: Path) -> Contract:
    """Return the contract in ``folder``; raises ToolError."""
    path = folder / CONTRACT_FILE
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ToolError(f"{path} does not exist: give a folder that `wb export` wrote.") from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ToolError(
            f"{path} is not a contract of this `wb export` ({error!r}): export again."
        ) from None


def _parse(text: Any) -> Contract:  # noqa: ANN401 - JSON
    if text["format"] != FORMAT:
        raise ValueError(f"format {text['format']}")
    contract = Contract(
        inputs=tuple(_parse_tensor(item) for item in text["inputs"]),
        outputs=tuple(_parse_tensor(item) for item in text["outputs"]),
        files={kind: dict(files) for kind, files in text["files"].items()},
        rows_independent=text["rows_independent"] is True,
        torch=str(text["torch"]),
    )
    names = {Path(name).name for files in contract.files.values() for name in files}
    if not contract.files or names != {name for files in contract.files.values() for name in files}:
        raise ValueError("files")
    return contract


def _parse_tensor(item: Mapping[str, Any]) -> TensorSpec:
    spec = TensorSpec(item["name"], tuple(item["shape"]), item["dtype"], item["below"])
    if (
        not NAME.fullmatch(spec.name)
        or spec.dtype not in DTYPES
        or spec.shape[:1] != (-1,)
        or not all(isinstance(size, int) and size > 0 for size in spec.shape[1:])
        or not (spec.below is None or spec.below > 0)
    ):
        raise ValueError(f"{item}")
    return spec


def hash_file(path: Path) -> str:
    """Return the SHA-256 of ``path``'s bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
