"""Export pipeline: loads a model and its inputs, writes the files and compares them; prints nothing.

The comparison uses three numbers of rows: one, the given number, and one more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from workbench_toolkit.errors import ToolError
from workbench_toolkit.export import compare, convert
from workbench_toolkit.export.contract import DTYPES, KINDS, Contract, TensorSpec, hash_file
from workbench_toolkit.export.inputs import Array, example_inputs, resize
from workbench_toolkit.export.source import load_model


@dataclasses.dataclass(frozen=True)
class Export:
    """A loaded model; ``arrays``: its example inputs in forward's order, at least two rows."""

    model: convert.FlatModel
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    arrays: Mapping[str, Array]
    row_counts: tuple[int, ...]

    @property
    def torch(self) -> str:
        """PyTorch's version."""
        return str(torch.__version__)

    @property
    def parameters(self) -> int:
        """The number of the model's parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def row_counts_text(self) -> str:
        """The compared numbers of rows as text."""
        *most, last = map(str, self.row_counts)
        return f"{', '.join(most)} and {last}"

    def eager_difference(self) -> float:
        """Return the largest difference between two runs of the eager model on the same inputs."""
        run, arrays = compare.run_eager(self.model), list(self.arrays.values())
        return max(compare.differences(run(arrays), run(arrays)))

    def write(self, kind: str, folder: Path) -> list[str]:
        """Write the model as ``kind`` into ``folder`` and return warnings; raises ToolError."""
        tensors = compare.copy_to_tensors(self.arrays.values())
        path = folder / KINDS[kind]
        if kind == "torchscript":
            return convert.write_torchscript(self.model, tensors, path)
        names = [spec.name for spec in self.outputs]
        convert.write_onnx(self.model, tensors, (list(self.arrays), names), path)
        return []

    def compare(self, kind: str, folder: Path) -> dict[str, float]:
        """Return each output's largest difference between the written file and the eager model."""
        path = folder / KINDS[kind]
        eager = compare.run_eager(self.model)
        exported = (
            compare.run_torchscript(path)
            if kind == "torchscript"
            else compare.run_onnx(path, list(self.arrays))
        )
        worst = [0.0 for _ in self.outputs]
        for rows in self.row_counts:
            arrays = list(resize(self.arrays, rows).values())
            try:
                found = compare.differences(eager(arrays), exported(arrays))
            except Exception as error:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                raise ToolError(
                    f"The exported model fails on {rows} rows: let forward take the number of rows "
                    f"from its inputs ({(lines or [type(error).__name__])[-1][:200]})."
                ) from error
            worst = [max(pair) for pair in zip(worst, found, strict=True)]
        return dict(zip((spec.name for spec in self.outputs), worst, strict=True))

    def contract(self, kinds: Sequence[str], folder: Path, tolerance: float) -> Contract:
        """Return the contract of the files of ``kinds`` in ``folder``."""
        files = {
            kind: {
                path.name: hash_file(path)
                for path in sorted(folder.glob(f"{KINDS[kind]}*"), key=lambda path: len(path.name))
            }
            for kind in kinds
        }
        eager = compare.run_eager(self.model)
        arrays = list(self.arrays.values())
        return Contract(
            self.inputs,
            self.outputs,
            files,
            compare.is_row_independent(eager, arrays, tolerance),
            self.torch,
        )


def prepare(source: str, checkpoint: Path | None, inputs: Sequence[str], seed: int) -> Export:
    """Load the model and its example inputs, and determine its outputs; raises ToolError."""
    specs, arrays = example_inputs(inputs, seed)
    model = load_model(source, checkpoint, seed)
    names = convert.ordered_names(model, list(arrays))
    rows = next(iter(arrays.values())).shape[0]
    arrays = resize({name: arrays[name] for name in names}, max(rows, 2))
    ordered = tuple(sorted(specs, key=lambda spec: names.index(spec.name)))
    flat = convert.FlatModel(model).eval()
    try:
        outputs = _outputs(flat, arrays)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise ToolError(
            f"The model fails on these inputs: {str(error).splitlines()[0][:300]}"
        ) from error
    return Export(flat, ordered, outputs, arrays, tuple(sorted({1, rows, max(rows, 2) + 1})))


def _outputs(flat: convert.FlatModel, arrays: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    names = convert.output_names(flat.model, compare.copy_to_tensors(arrays.values()))
    run = compare.run_eager(flat)
    rows = len(next(iter(arrays.values())))
    found = run(list(arrays.values()))
    more = run(list(resize(arrays, rows + 1).values()))
    specs = []
    for name, array, longer in zip(names, found, more, strict=True):
        if array.shape[:1] != (rows,) or longer.shape != (rows + 1, *array.shape[1:]):
            raise ToolError(
                f"The output {name} has shape {list(array.shape)} for {rows} rows: return one row per input row."
            )
        if array.dtype.name not in DTYPES:
            raise ToolError(
                f"The output {name} is {array.dtype.name}: return one of {', '.join(DTYPES)}."
            )
        specs.append(TensorSpec(name, (-1, *array.shape[1:]), array.dtype.name))
    return tuple(specs)
