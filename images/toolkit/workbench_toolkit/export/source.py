"""Model source: creates the model with the user's factory and loads its weights from a checkpoint.

A checkpoint is data: loading executes no code from it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

from workbench_toolkit.checkpointing.checkpoint import load_data
from workbench_toolkit.errors import ToolError


def load_model(source: str, checkpoint: Path | None, seed: int) -> torch.nn.Module:
    """Return the model of ``source`` on the CPU; raises ToolError.

    ``source`` is ``FILE.py:FACTORY`` or ``PACKAGE.MODULE:FACTORY``.
    """
    place, _, name = source.rpartition(":")
    if not place or not name.isidentifier():
        raise ToolError(
            f'"{source}" is not a factory: write FILE.py:FACTORY or PACKAGE.MODULE:FACTORY.'
        )
    module = _import(place)
    factory = getattr(module, name, None)
    if factory is None:
        raise ToolError(f"{place} has no {name}; it has {_candidates(module)}.")
    torch.manual_seed(seed)
    model = factory if isinstance(factory, torch.nn.Module) else _call(factory, source)
    if not isinstance(model, torch.nn.Module):
        raise ToolError(f"{source} returns {type(model).__name__}: return a torch.nn.Module.")
    if checkpoint is not None:
        _fill(model, checkpoint)
    return model.to("cpu").requires_grad_(False)


def _import(place: str) -> ModuleType:
    path = Path(place).resolve()
    if place.endswith(".py") and not path.is_file():
        raise ToolError(f"{place} does not exist.")
    try:
        if place.endswith(".py"):
            return _run_file(path)
        sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(place)
    except Exception as error:
        raise ToolError(f"{place} cannot be imported: {_describe_error(error)}") from error


def _run_file(path: Path) -> ModuleType:
    # by path, because its name may be the name of a module of the standard library
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def _call(factory: Callable[[], object], source: str) -> object:
    try:
        return factory()
    except Exception as error:
        raise ToolError(
            f"{source}() failed: {_describe_error(error)}; a factory has no required arguments."
        ) from error


def _describe_error(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first} ({Path(last.filename).name}:{last.lineno})"


def _candidates(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, torch.nn.Module)
        and value.__module__ == module.__name__
    ]
    return ", ".join(names) or "no class of torch.nn.Module"


def _fill(model: torch.nn.Module, checkpoint: Path) -> None:
    try:
        state = load_data(checkpoint)
    except FileNotFoundError:
        raise ToolError(f"{checkpoint} does not exist.") from None
    except Exception as error:
        raise ToolError(
            f"{checkpoint} cannot be loaded as weights only ({(str(error).splitlines() or ['empty'])[0]}): "
            "save model.state_dict()."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise ToolError(
            f'{checkpoint} has no state_dict: save model.state_dict(), alone or as {{"model": …}}.'
        )
    torch.nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise ToolError(f"{checkpoint} does not fit the model: {' '.join(lines)[:300]}") from None
