"""Writes and reads a run's checkpoint.

A reader finds the old one or the new one, never a part; a new one is on the disk before any rank goes on.
The file is the script's own state, as ``torch.load`` and ``wb export`` read it, with one key more.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from workbench_toolkit.errors import ToolError

UNFINISHED = ".unfinished"
GENERATORS = "random generators"
"""The one key of the file that is not the script's own."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write rank 0's ``state`` and every rank's random generators; returns on all ranks once it is there."""
    generators = _gather(_generators())
    failure = None
    if _rank() == 0:
        try:
            _write(path, {**state, GENERATORS: generators})
        except Exception as error:  # noqa: BLE001 - the other ranks have to hear of whatever it is
            path.with_name(f"{path.name}{UNFINISHED}").unlink(missing_ok=True)
            failure = (
                f"{path} can't be written ({_cause(error)}): the last checkpoint is still whole."
            )
    for said in _gather(failure):
        if said is not None:
            raise ToolError(said)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the saved state with tensors on the CPU, and set this rank's generators; None without a file."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        generators = state.pop(GENERATORS)
    except Exception as error:
        raise ToolError(
            f"{path} is no checkpoint of Grace ({error}): remove it to start anew."
        ) from error
    if len(generators) == _world_size():
        _set_generators(generators[_rank()])
    elif _rank() == 0:
        sys.stderr.write(
            f"{path} was saved by {len(generators)} processes, this run has {_world_size()}: "
            "it goes on with other random numbers.\n"
        )
    return state


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}{UNFINISHED}")
    with unfinished.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _cause(error: BaseException) -> str:
    """Return why; torch.save hides a full disk behind what happened after it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return os.strerror(cause.errno) if cause and cause.errno else str(error)


def _generators() -> dict[str, Any]:
    """Return the states of Python's, PyTorch's and, where loaded, NumPy's global generators."""
    states: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    if "numpy" in sys.modules:
        kind, keys, *rest = sys.modules["numpy"].random.get_state()
        states["numpy"] = (kind, keys.tolist(), *rest)
    return states


def _set_generators(states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    if "numpy" in states:
        import numpy as np

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
