"""Checkpoint file: writes and reads the state of a run.

A reader finds the old file or the new one, never a part; the new one is on the disk before any rank continues.
Loading executes no code from the file. Therefore a state with other objects than data is rejected at the save.
The file is the script's own state for ``torch.load`` and ``wb export``, with one more key.
"""

from __future__ import annotations

import os
import random
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from workbench_toolkit.errors import ToolError

UNFINISHED = ".unfinished"
REJECTED = ".rejected"
"""The suffix of a saved state that can't be loaded safely."""

GENERATORS = "random generators"
"""The one key that is not part of the script's state."""

NUMPY: tuple[Any, ...] = (
    bytes,  # of an empty array
    np.ndarray,
    np.dtype,
    *(kind for kind in vars(np.dtypes).values() if isinstance(kind, type)),
    np.empty(0).__reduce__()[0],
    np.float64().__reduce__()[0],
)
"""The types of NumPy's arrays and scalars in a file; their constructors run no code of the file."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write rank 0's ``state`` and every rank's random generators; returns on all ranks after the write."""
    generators = _gather(_generators())
    failure = _replace(path, {**state, GENERATORS: generators}) if _rank() == 0 else None
    for sentence in _gather(failure):
        if sentence is not None:
            raise ToolError(sentence)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the saved state with tensors on the CPU, and restore this rank's generators; None without a file."""
    rejected = _with_suffix(path, REJECTED)
    if rejected.exists():
        raise ToolError(
            f"{rejected} is the last saved state and can't be loaded safely: {_manual_load(rejected)}; "
            f"torch.save its plain data as {path}, then move it away."
        )
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = load_data(path)
        generators = state.pop(GENERATORS)
    except Exception as error:
        raise ToolError(
            f"{path} is not a checkpoint that can be loaded safely ({_reason(error)}): {_manual_load(path)}; "
            "to start from the beginning, move it away."
        ) from error
    if len(generators) == _world_size():
        _set_generators(generators[_rank()])
    elif _rank() == 0:
        sys.stderr.write(
            f"{path} was saved by {len(generators)} processes, this run has {_world_size()}: "
            "its random numbers differ from here on.\n"
        )
    return state


def load_data(path: Path, *, mmap: bool = False) -> Any:  # noqa: ANN401 - the saved object
    """Return the content of ``path``, with tensors on the CPU and NumPy's values; executes no code from it."""
    allowed = torch.serialization.get_safe_globals()
    # on exit safe_globals also removes types that the script had allowed before
    with torch.serialization.safe_globals([part for part in NUMPY if part not in allowed]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _replace(path: Path, content: object) -> str | None:
    """Write ``content`` to ``path`` if it can be loaded again, else to the rejected file; return an error sentence."""
    unfinished, rejected = _with_suffix(path, UNFINISHED), _with_suffix(path, REJECTED)
    try:
        _write(unfinished, content)
        problem = _problem(unfinished)
        _rename(unfinished, path if problem is None else rejected)
    except Exception as error:  # noqa: BLE001 - the other ranks wait for the sentence
        unfinished.unlink(missing_ok=True)
        return f"{path} can't be written ({_cause(error)}): the last checkpoint is still whole."
    if problem is None:
        return None
    return (
        f"{path} was not replaced, because the new state can't be loaded safely ({problem}): save numbers, "
        f"strings, tensors and arrays only. The new state is in {rejected}: {_manual_load(rejected)}."
    )


def _problem(path: Path) -> str | None:
    """Return the reason why ``path`` can't be loaded, None for a good file; reads no tensor."""
    try:
        load_data(path, mmap=True)
    except Exception as error:  # noqa: BLE001 - load would raise the same
        return _reason(error)
    return None


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def _rename(path: Path, new: Path) -> None:
    path.replace(new)
    folder = os.open(new.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")


def _manual_load(path: Path) -> str:
    return f'if you trust it, torch.load("{path}", map_location="cpu", weights_only=False) reads it'


def _reason(error: BaseException) -> str:
    """Return the reason of a failed torch.load: the refused type, or the first line of the error."""
    message = str(error.__context__ or error)
    refused = re.search(r"GLOBAL (\S+)", message)
    return refused[1] if refused else (message.splitlines() or [type(error).__name__])[0]


def _cause(error: BaseException) -> str:
    """Return the cause of a failed write; torch.save hides a full disk behind a later error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return os.strerror(cause.errno) if cause and cause.errno else str(error)


def _generators() -> dict[str, Any]:
    """Return the states of Python's, PyTorch's and NumPy's global generators."""
    numpys: Any = np.random.get_state()
    kind, keys, *rest = numpys
    states: dict[str, Any] = {
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
        "numpy": (kind, keys.tolist(), *rest),  # a plain torch.load refuses arrays
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_generators(states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    if "numpy" in states:
        np.random.set_state(states["numpy"])


def _gather(mine: object) -> list[Any]:
    """Return every rank's value, in order of rank; waits for all ranks."""
    if _world_size() == 1:
        return [mine]
    values: list[Any] = [None] * _world_size()
    dist.all_gather_object(values, mine)
    return values


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1
