"""Conversion: writes an eager model as TorchScript and as ONNX.

TorchScript is traced, because scripting accepts only a subset of Python. A trace makes some things constant:
a branch on values gets a warning here, and the comparison finds a constant number of rows.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from workbench_toolkit.errors import ToolError
from workbench_toolkit.export.contract import NAME

EXTERNAL_ABOVE_BYTES = 1_500_000_000
"""Above this size, the weights of an ONNX model get their own file: a protobuf is limited to 2 GiB."""


class FlatModel(torch.nn.Module):
    """A wrapper that takes a model's inputs in order and returns its outputs as a tuple of tensors."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs in the order of ``output_names``; bfloat16, missing in NumPy, becomes float32."""
        found = self.model(*inputs)
        values = _values(found)
        return tuple(value.float() if value.dtype is torch.bfloat16 else value for value in values)


def _values(found: object) -> Sequence[torch.Tensor]:
    if isinstance(found, torch.Tensor):
        return (found,)
    if isinstance(found, Mapping):
        found = tuple(value for value in found.values() if value is not None)
    if (
        isinstance(found, tuple | list)
        and found
        and all(isinstance(value, torch.Tensor) for value in found)
    ):
        return found
    raise ToolError(
        "The model's output has an unknown type: return a tensor, or a tuple, list or dict of tensors."
    )


def output_names(model: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[str, ...]:
    """Return the outputs' names: a dict's keys, ``output``, or ``output_0`` and so on; raises ToolError."""
    with torch.no_grad():
        found = model(*inputs)
    count = len(_values(found))
    if isinstance(found, Mapping):
        names = tuple(str(name) for name, value in found.items() if value is not None)
    else:
        names = ("output",) if count == 1 else tuple(f"output_{index}" for index in range(count))
    if not all(NAME.fullmatch(name) for name in names):
        raise ToolError(f"Output names are limited to letters, digits and _: {', '.join(names)}.")
    return names


def ordered_names(model: torch.nn.Module, given: Sequence[str]) -> tuple[str, ...]:
    """Return ``given`` in the order of forward's parameters; raises ToolError unless they are its first ones."""
    parameters = [
        name
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if not parameters:
        return tuple(given)
    names = tuple(parameters[: len(given)])
    if set(names) != set(given):
        raise ToolError(
            f"forward takes {', '.join(parameters)}, and the inputs are {', '.join(given)}: "
            "give its first parameters, by name."
        )
    return names


def write_torchscript(model: FlatModel, inputs: Sequence[torch.Tensor], path: Path) -> list[str]:
    """Write the traced ``model`` and return a warning for each branch on values; raises ToolError."""
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        try:
            traced = torch.jit.trace(model, tuple(inputs), check_trace=False)
            torch.jit.save(traced, path)
        except RuntimeError as error:
            raise ToolError(f"The model cannot be traced: {_first_line(error)}") from error
    places = {
        f"{Path(warning.filename).name}:{warning.lineno}"
        for warning in caught
        if warning.category.__name__ == "TracerWarning"
    }
    return [
        f"forward branches on values at {place}: TorchScript keeps the branch of these inputs."
        for place in sorted(places)
    ]


def write_onnx(
    model: FlatModel,
    inputs: Sequence[torch.Tensor],
    names: tuple[Sequence[str], Sequence[str]],
    path: Path,
) -> None:
    """Write ``model`` as ONNX for any number of rows; ``names``: of inputs and outputs; raises ToolError."""
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                tuple(inputs),
                path,
                input_names=list(names[0]),
                output_names=list(names[1]),
                dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),),
                dynamo=True,
                verbose=False,
                external_data=size > EXTERNAL_ABOVE_BYTES,
            )
    except ImportError as error:
        raise ToolError(
            f"ONNX is not in this image ({error}): use the flavor train or lab."
        ) from None
    except Exception as error:
        raise ToolError(
            f"The model cannot be converted to ONNX: {_first_line(error.__cause__ or error)}; "
            "use --format torchscript for TorchScript only."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
