"""An eager model made into TorchScript and ONNX.

TorchScript is made by tracing: it takes any Python, where scripting takes a subset. What a trace would fix for
good is looked for: a branch on values is warned about here, a number of rows is found by the comparison.
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
"""From this size on an ONNX model keeps its weights in a file of their own: one protobuf ends at 2 GiB."""


class FlatModel(torch.nn.Module):
    """A model that takes its inputs in order and returns a tuple of tensors, whatever it returned before."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the model's outputs in the order of ``output_names``; bfloat16, which NumPy lacks, as float32."""
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
        "The model returns neither a tensor nor a tuple, list or dict of tensors: return one of these."
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
        raise ToolError(
            f"An output's name may have letters, digits and _ only: {', '.join(names)}."
        )
    return names


def ordered_names(model: torch.nn.Module, given: Sequence[str]) -> tuple[str, ...]:
    """Return ``given`` in the order of forward's parameters; raises ToolError where they are not its first ones."""
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
            f"forward takes {', '.join(parameters)}: give these inputs, by these names, from the first on "
            f"(given: {', '.join(given)})."
        )
    return names


def write_torchscript(model: FlatModel, inputs: Sequence[torch.Tensor], path: Path) -> list[str]:
    """Write the traced ``model`` and return a sentence for each place that decides by values; raises ToolError."""
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        try:
            traced = torch.jit.trace(model, tuple(inputs), check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, path)
        except RuntimeError as error:
            raise ToolError(f"The model cannot be traced: {_first_line(error)}") from error
    places = {
        f"{Path(warning.filename).name}:{warning.lineno}"
        for warning in caught
        if warning.category.__name__ == "TracerWarning"
    }
    return [
        f"forward looks at values at {place}: TorchScript keeps what it saw with these inputs."
        for place in sorted(places)
    ]


def write_onnx(
    model: FlatModel,
    inputs: Sequence[torch.Tensor],
    names: tuple[Sequence[str], Sequence[str]],
    path: Path,
) -> None:
    """Write ``model`` as ONNX with any number of rows; ``names``: the inputs' and the outputs'; raises ToolError."""
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
        raise ToolError(f"ONNX is not in this flavor ({error}): export in train or lab.") from None
    except Exception as error:
        raise ToolError(
            f"The model cannot be made into ONNX: {_first_line(error.__cause__ or error)}; "
            "--format torchscript leaves ONNX out."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
