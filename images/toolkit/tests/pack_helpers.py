"""Pack helpers: folders to pack, and the error of a refused pack."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from workbench_toolkit.errors import ToolError
from workbench_toolkit.pack.packing import Advance, pack

ENDINGS = ["lmdb", "h5"]


def silent(doing: str, total: int | None) -> Advance:
    return lambda files: None


def fill(folder: Path, files: int) -> Path:
    for index in range(files):
        file = folder / f"{index % 7}" / f"{index}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(hashlib.sha256(str(index).encode()).digest() * (index % 300))
    return folder


def refusal(folder: Path, out: Path) -> str:
    with pytest.raises(ToolError) as refused:
        pack(folder, out, silent)
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence
