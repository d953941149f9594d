"""Packed data set: a pack as a map-style data set for a DataLoader, in the order of the pack.

It can be pickled and forked: each reading process opens the pack itself.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from workbench_toolkit.pack.formats import PackReader, open_reader


class Sample(NamedTuple):
    """One packed file; a batch of them is a Sample of two lists."""

    name: str
    data: bytes


class PackedFiles(Dataset[Any]):
    """The files of a pack in order.

    An item is a ``Sample``, or the result of ``decode(name, data)``, which spawned workers must be able to pickle.
    Raises ToolError when ``path`` is not a finished pack.
    """

    def __init__(
        self, path: str | os.PathLike[str], decode: Callable[[str, bytes], Any] | None = None
    ) -> None:
        self._path = Path(path).absolute()
        self._decode = decode
        self._reader: PackReader = open_reader(self._path)

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - the result of decode
        position = self._position(index)
        sample = Sample(self._reader.describe(position)[0], self._reader.content(position))
        return sample if self._decode is None else self._decode(*sample)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the items of a batch; one prefetch reads all of them."""
        self._reader.prefetch([self._position(index) for index in indices])
        return [self[index] for index in indices]

    def name(self, index: int) -> str:
        """Return a file's name without reading the file."""
        return self._reader.describe(self._position(index))[0]

    @property
    def digest(self) -> str:
        """SHA-256 over all names and checksums in order, in hex."""
        return self._reader.digest.hex()

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_decode": self._decode}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reader = open_reader(self._path)

    def _position(self, index: int) -> int:
        position = operator.index(index)
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(f"{index} of {len(self)} files")
        return position
