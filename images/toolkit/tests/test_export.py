"""``wb export`` of real models: the files agree with the eager model, or nothing is written."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from workbench_toolkit.checkpointing.checkpoint import save_checkpoint
from workbench_toolkit.cli import main
from workbench_toolkit.export.contract import TensorSpec, read_contract

MODELS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))

        def forward(self, features):
            return self.layers(features)

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(50, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, tokens, weights):
            mean = (self.words(tokens) * weights[..., None]).mean(1)
            return {"logits": self.head(mean), "best": self.head(mean).argmax(1)}

    class Restless(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x)

    class FixedRows(nn.Module):
        def forward(self, x):
            return x.reshape(int(x.shape[0]), -1) + torch.zeros(4, 1)

    class Loss(nn.Module):
        def forward(self, x):
            return x.mean()

    class Neighbours(nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    class Centred(nn.Module):
        def forward(self, x):
            x -= 0.5
            return x.clamp_(-1, 1) * 2

    class Wiped(nn.Module):
        def forward(self, x):
            made = x + 1 if torch.jit.is_tracing() else x.clone()
            made[x == 0] = 0
            x.zero_()
            return made

    class Different(nn.Module):
        def forward(self, x):
            return x + 1 if torch.jit.is_tracing() else x

    class Branch(nn.Module):
        def forward(self, x):
            if x.sum() > 1e9:
                return x * 2
            return x

    def broken():
        raise KeyError("weights")

    def number():
        return 3
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "random.py"  # the standard library has a module of this name too
    path.write_text(textwrap.dedent(MODELS))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def export(models: Path, tmp_path: Path) -> Callable[..., int]:
    return lambda name, *words: main(
        ["export", f"{models}:{name}", "--out", str(tmp_path / "out"), *words]
    )


def run_onnx(path: Path, **arrays: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, arrays)
    return outputs


def test_both_formats_answer_like_the_eager_model_for_any_number_of_rows(
    export: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("Net", "--input", "features=1x8") == 0

    said = capsys.readouterr().out
    assert said.count("output: max difference") == 2
    contract = read_contract(tmp_path / "out")
    assert contract.inputs == (TensorSpec("features", (-1, 8), "float32"),)
    assert contract.outputs == (TensorSpec("output", (-1, 3), "float32"),)
    assert contract.rows_independent
    for files in contract.files.values():
        for name, digest in files.items():
            assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    features = np.random.default_rng(5).standard_normal((7, 8)).astype("float32")
    scripted = torch.jit.load(tmp_path / "out" / "model.pt")(torch.from_numpy(features))[0].numpy()
    assert scripted.shape == (7, 3)
    np.testing.assert_allclose(
        run_onnx(tmp_path / "out" / "model.onnx", features=features)[0], scripted, atol=1e-5
    )


def test_inputs_go_by_name_and_a_dict_of_outputs_keeps_its_names(
    export: Callable[..., int], tmp_path: Path
) -> None:
    assert export("Text", "--input", "weights=3x6", "--input", "tokens=3x6:int64:50") == 0

    contract = read_contract(tmp_path / "out")
    assert contract.inputs == (
        TensorSpec("tokens", (-1, 6), "int64", 50),
        TensorSpec("weights", (-1, 6), "float32"),
    )
    assert [(spec.name, spec.dtype) for spec in contract.outputs] == [
        ("logits", "float32"),
        ("best", "int64"),
    ]
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert [value.name for value in session.get_inputs()] == ["tokens", "weights"]
    assert [value.name for value in session.get_outputs()] == ["logits", "best"]


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_inputs_come_from_a_file(export: Callable[..., int], tmp_path: Path, suffix: str) -> None:
    features = np.ones((2, 8), "float32")
    if suffix == ".npz":
        np.savez(tmp_path / "example.npz", features=features)
    else:
        torch.save({"features": torch.from_numpy(features)}, tmp_path / "example.pt")

    assert (
        export("Net", "--format", "torchscript", "--input", str(tmp_path / f"example{suffix}")) == 0
    )

    assert read_contract(tmp_path / "out").inputs == (TensorSpec("features", (-1, 8), "float32"),)
    assert not (tmp_path / "out" / "model.onnx").exists()


@pytest.mark.parametrize("kind", ["plain", "from DDP", "with more in it", "from Checkpointer"])
def test_a_checkpoint_fills_the_model(
    export: Callable[..., int], models: Path, tmp_path: Path, kind: str
) -> None:
    torch.manual_seed(99)
    namespace: dict[str, Callable[[], torch.nn.Module]] = {}
    exec(models.read_text(), namespace)  # noqa: S102
    model = namespace["Net"]()
    state = model.state_dict()
    with_more = {"model": state, "epoch": 3, "loss": np.float64(0.5)}
    saved = {
        "plain": state,
        "from DDP": {f"module.{name}": value for name, value in state.items()},
        "with more in it": with_more,
    }
    if kind == "from Checkpointer":
        save_checkpoint(tmp_path / "weights.pt", with_more)
    else:
        torch.save(saved[kind], tmp_path / "weights.pt")

    assert (
        export("Net", "--input", "features=2x8", "--checkpoint", str(tmp_path / "weights.pt")) == 0
    )

    features = torch.randn(5, 8)
    exported = torch.jit.load(tmp_path / "out" / "model.pt")(features)[0]
    torch.testing.assert_close(exported, model.eval()(features), atol=1e-5, rtol=0)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, ("pwned", "w"))


def test_a_checkpoint_runs_nothing(
    export: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"layers.0.weight": Evil()}, tmp_path / "weights.pt")

    assert (
        export("Net", "--input", "features=2x8", "--checkpoint", str(tmp_path / "weights.pt")) == 2
    )

    assert "cannot be loaded as weights only" in capsys.readouterr().err
    assert not Path("pwned").exists()


@pytest.mark.parametrize("content", [b"", b"not one", b"\x80\x02junk" * 100], ids=len)
def test_a_checkpoint_that_is_none_is_one_sentence(
    export: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
) -> None:
    (tmp_path / "weights.pt").write_bytes(content)

    assert (
        export("Net", "--input", "features=2x8", "--checkpoint", str(tmp_path / "weights.pt")) == 2
    )

    assert "cannot be loaded as weights only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ["Different", "--format", "torchscript", "--input", "x=2x3"],
            1,
            "differs from the eager one by 1",
        ),
        (
            ["Wiped", "--format", "torchscript", "--input", "x=2x3"],
            1,
            "differs from the eager one by 1",
        ),
        (["Restless", "--input", "x=64x64"], 1, "Two runs of the eager model"),
        (["FixedRows", "--input", "x=4x3"], 2, "fails on"),
        (["Loss", "--input", "x=2x3"], 2, "return one row per input row"),
        (["Absent", "--input", "x=2x3"], 2, "has no Absent; it has Net, Text"),
        (["broken", "--input", "x=2x3"], 2, "KeyError: 'weights'"),
        (["number", "--input", "x=2x3"], 2, "returns int"),
        (["Net", "--input", "x=2x8"], 2, "forward takes features"),
        (["Net", "--input", "features=2x9"], 2, "The model fails on these inputs"),
        (["Net", "--input", "features=0x8"], 2, "at least one"),
        (["Net", "--input", "features=2x8:bfloat16"], 2, "is not an input"),
        (["Net", "--input", "features"], 2, "is not an input"),
        (["Net", "--input", "features=2x8:float32:5"], 2, "is a bound for integers"),
        (
            ["Text", "--input", "tokens=2x8:int64", "--input", "weights=3x8"],
            2,
            "same number of rows",
        ),
        (["Net", "--input", "absent.npz"], 2, "does not exist"),
        (["Net", "--input", "features=2x8", "--checkpoint", "absent.pt"], 2, "does not exist"),
        (["Net", "--input", "features=2x8", "--tolerance", "nan"], 2, "--tolerance"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_exported_is_one_sentence_and_no_file(
    export: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    sentence: str,
) -> None:
    assert export(*words) == code

    errors = capsys.readouterr().err.splitlines()
    assert sentence in errors[-1]
    assert not [path for path in tmp_path.glob("out/**/*") if path.is_file()]


def test_an_export_that_fails_leaves_the_last_one(
    export: Callable[..., int], tmp_path: Path
) -> None:
    assert export("Net", "--input", "features=2x8") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    assert export("Different", "--format", "torchscript", "--input", "x=2x3") == 1

    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_rows_that_look_at_their_neighbours_are_found(
    export: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("Neighbours", "--input", "x=4x3") == 0

    assert not read_contract(tmp_path / "out").rows_independent
    assert "depends on other rows" in capsys.readouterr().out


def test_a_forward_may_write_into_its_inputs(export: Callable[..., int], tmp_path: Path) -> None:
    assert export("Centred", "--input", "x=4x3") == 0

    assert read_contract(tmp_path / "out").rows_independent
    x = np.random.default_rng(5).standard_normal((7, 3)).astype("float32")
    expected = np.clip(x - 0.5, -1, 1) * 2
    np.testing.assert_allclose(run_onnx(tmp_path / "out" / "model.onnx", x=x)[0], expected)
    scripted = torch.jit.load(tmp_path / "out" / "model.pt")(torch.from_numpy(x))[0]
    np.testing.assert_allclose(scripted.numpy(), expected)


def test_a_branch_on_values_is_pointed_at(
    export: Callable[..., int], models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("Branch", "--format", "torchscript", "--input", "x=2x3") == 0

    line = next(
        number for number, text in enumerate(models.read_text().splitlines(), 1) if "1e9" in text
    )
    assert f"{models.name}:{line}" in capsys.readouterr().out


def test_large_weights_lie_in_a_file_of_their_own(
    export: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench_toolkit.export.convert.EXTERNAL_ABOVE_BYTES", 0)

    assert export("Net", "--format", "onnx", "--input", "features=2x8") == 0

    files = read_contract(tmp_path / "out").files["onnx"]
    assert list(files) == ["model.onnx", "model.onnx.data"]
    assert run_onnx(tmp_path / "out" / "model.onnx", features=np.ones((3, 8), "float32"))[
        0
    ].shape == (
        3,
        3,
    )


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"files": {}},
        {"files": {"onnx": {"../model.onnx": "00"}}},
        {"inputs": [{"name": "x", "shape": [3, 3], "dtype": "float32", "below": None}]},
        {"inputs": [{"name": "x", "shape": [-1, "a"], "dtype": "float32", "below": None}]},
        {"inputs": 3},
    ],
    ids=str,
)
def test_a_contract_that_was_changed_is_refused(
    export: Callable[..., int],
    tmp_path: Path,
    change: dict[str, object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export("Net", "--format", "torchscript", "--input", "features=2x8") == 0
    path = tmp_path / "out" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    assert main(["serve", str(tmp_path / "out")]) == 2

    assert "export again" in capsys.readouterr().err
