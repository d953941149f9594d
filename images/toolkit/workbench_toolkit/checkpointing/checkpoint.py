"""Writes and reads a run's checkpoint.

A reader finds the old one or the new one, never a part; a new one is on the disk before any rank goes on,
and can be loaded: loading runs nothing that a file holds, so not every state can be.
The file is the script's own state, as ``torch.load`` and ``wb export`` read it, with one key more.
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
ASIDE = ".aside"
"""Ends the name of a state that was saved but can't be loaded safely."""

GENERATORS = "random generators"
"""The one key of the file that is not the script's own."""

NUMPY: tuple[Any, ...] = (
    bytes,  # of an empty array
    np.ndarray,
    np.dtype,
    *(kind for kind in vars(np.dtypes).values() if isinstance(kind, type)),
    np.empty(0).__reduce__()[0],
    np.float64().__reduce__()[0],
)
"""What NumPy's arrays and scalars are made of in a file; none of it runs anything."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write rank 0's ``state`` and every rank's random generators; returns on all ranks once it is there."""
    generators = _gather(_generators())
    failure = _replace(path, {**state, GENERATORS: generators}) if _rank() == 0 else None
    for said in _gather(failure):
        if said is not None:
            raise ToolError(said)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the saved state with tensors on the CPU, and set this rank's generators; None without a file."""
    aside = _beside(path, ASIDE)
    if aside.exists():
        raise ToolError(
            f"{aside} was saved last and can't be loaded safely: {_by_hand(aside)}; torch.save what is plain "
            f"of it as {path}, then move it away."
        )
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = load_data(path)
        generators = state.pop(GENERATORS)
    except Exception as error:
        raise ToolError(
            f"{path} is no checkpoint of Grace that can be loaded safely ({_reason(error)}): {_by_hand(path)}; "
            "to start anew, move it away."
        ) from error
    if len(generators) == _world_size():
        _set_generators(generators[_rank()])
    elif _rank() == 0:
        sys.stderr.write(
            f"{path} was saved by {len(generators)} processes, this run has {_world_size()}: "
            "it goes on with other random numbers.\n"
        )
    return state


def load_data(path: Path, *, mmap: bool = False) -> Any:  # noqa: ANN401 - whatever was saved
    """Return what ``path`` holds, with tensors on the CPU and NumPy's values as they were; runs nothing of it."""
    allowed = torch.serialization.get_safe_globals()
    # safe_globals takes back all that it is given, so it is not given what the script allows
    with torch.serialization.safe_globals([part for part in NUMPY if part not in allowed]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _replace(path: Path, content: object) -> str | None:
    """Write ``content`` to ``path`` if it can be loaded again, else beside it; return what went wrong."""
    unfinished, aside = _beside(path, UNFINISHED), _beside(path, ASIDE)
    try:
        _write(unfinished, content)
        problem = _problem(unfinished)
        _rename(unfinished, path if problem is None else aside)
    except Exception as error:  # noqa: BLE001 - the other ranks have to hear of whatever it is
        unfinished.unlink(missing_ok=True)
        return f"{path} can't be written ({_cause(error)}): the last checkpoint is still whole."
    if problem is None:
        return None
    return (
        f"{path} was not replaced, as the new state can't be loaded again safely ({problem}): save numbers, "
        f"strings, tensors and arrays. The new state is in {aside}: {_by_hand(aside)}."
    )


def _problem(path: Path) -> str | None:
    """Return why the checkpoint ``path`` can't be loaded; reads no tensor."""
    try:
        load_data(path, mmap=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, load would raise it as well
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


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")


def _by_hand(path: Path) -> str:
    return f'if you trust it, torch.load("{path}", map_location="cpu", weights_only=False) reads it'


def _reason(error: BaseException) -> str:
    """Return why torch.load failed: the type that it refuses, or the first line of what it says."""
    said = str(error.__context__ or error)
    refused = re.search(r"GLOBAL (\S+)", said)
    return refused[1] if refused else (said.splitlines() or [type(error).__name__])[0]


def _cause(error: BaseException) -> str:
    """Return why; torch.save hides a full disk behind what happened after it."""
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
    """Return every rank's value, in order of rank; waits for all of them."""
    if _world_size() == 1:
        return [mine]
    values: list[Any] = [None] * _world_size()
    dist.all_gather_object(values, mine)
    return values


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1
