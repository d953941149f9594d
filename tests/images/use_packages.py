"""Uses every listed package of an image once; runs inside a container with the image's Python.

It prints one JSON object: the traceback's last line of each use that fails, by its name.
"""

# mypy: disable-error-code="import-not-found,import-untyped,misc"
from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

USES: dict[str, Callable[[], None]] = {}
FOLDER = Path(tempfile.mkdtemp())


def use(function: Callable[[], None]) -> Callable[[], None]:
    """Add a use under the name of its function."""
    USES[function.__name__] = function
    return function


@use
def soundfile_and_torchaudio() -> None:
    import soundfile
    import torch

    if importlib.util.find_spec("torchaudio") is not None:
        import torchaudio

        torchaudio.save(FOLDER / "a.wav", torch.zeros(1, 800), 8000)
        assert torchaudio.load(FOLDER / "a.wav")[1] == 8000
    soundfile.write(FOLDER / "b.wav", [0.0, 0.5] * 400, 8000)
    assert soundfile.read(FOLDER / "b.wav")[0][1] == 0.5


@use
def video_summary() -> None:
    import torch
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(FOLDER / "board"))
    writer.add_video("v", torch.randint(0, 255, (1, 4, 3, 16, 16), dtype=torch.uint8))
    writer.add_scalar("s", 1.0)
    writer.close()
    assert sum(path.stat().st_size for path in (FOLDER / "board").iterdir()) > 500


@use
def h5py_lmdb_and_arrow() -> None:
    import h5py
    import lmdb
    import numpy as np

    with h5py.File(FOLDER / "a.h5", "w") as file:
        file["x"] = np.arange(3)
    with h5py.File(FOLDER / "a.h5") as file:
        assert file["x"][2] == 2
    with lmdb.open(str(FOLDER / "l")) as database, database.begin(write=True) as transaction:
        transaction.put(b"a", b"1")
        assert transaction.get(b"a") == b"1"
    import datasets

    rows = datasets.Dataset.from_dict({"x": [1, 2, 3]}).map(lambda row: {"y": 2 * row["x"]})
    assert rows[2]["y"] == 6


@use
def a_chinese_title() -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a missing glyph
        axes.set_title("损失 損失 손실 loss")
        figure.savefig(io.BytesIO())


@use
def seaborn_and_pandas() -> None:
    import pandas as pd
    import seaborn

    seaborn.lineplot(pd.DataFrame({"x": [1, 2], "y": [3, 4]}), x="x", y="y").figure.savefig(
        io.BytesIO()
    )


@use
def scikit_learn_and_scipy() -> None:
    import scipy.stats
    from sklearn.linear_model import LogisticRegression

    assert LogisticRegression().fit([[0.0], [1.0]], [0, 1]).predict([[2.0]])[0] == 1
    assert scipy.stats.norm.cdf(0) == 0.5


@use
def evaluate_a_metric() -> None:
    import evaluate

    class Accuracy(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            import datasets

            features = datasets.Features(
                {"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}
            )
            return evaluate.MetricInfo(description="", citation="", features=features)

        def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
            same = sum(a == b for a, b in zip(predictions, references, strict=True))
            return {"accuracy": same / len(references)}

    result = Accuracy().compute(predictions=[1, 0], references=[1, 1])
    assert result == {"accuracy": 0.5}


@use
def einops_and_vision() -> None:
    import einops
    import torch
    import torchvision

    image = torch.zeros(1, 3, 32, 32)
    assert torchvision.models.resnet18(weights=None).eval()(image).shape == (1, 1000)
    assert einops.rearrange(image, "b c h w -> b (c h w)").shape == (1, 3072)


@use
def tokenizers() -> None:
    import sentencepiece
    import tiktoken

    model = io.BytesIO()
    text = (f"line {number} of a small text\n" for number in range(200))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=text, model_writer=model, vocab_size=40, minloglevel=2
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert processor.decode(processor.encode("small text")) == "small text"
    ranks = {bytes([number]): number for number in range(256)}
    encoding = tiktoken.Encoding("bytes", pat_str=r".", mergeable_ranks=ranks, special_tokens={})
    assert encoding.decode(encoding.encode("loss")) == "loss"


@use
def transformers_peft_and_accelerate() -> None:
    import accelerate
    import peft
    import torch
    import transformers

    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16)
    model = peft.get_peft_model(
        transformers.GPT2LMHeadModel(config), peft.LoraConfig(task_type="CAUSAL_LM")
    )
    model = accelerate.Accelerator(cpu=True).prepare(model)
    ids = torch.ones(1, 3, dtype=torch.long)
    assert model(input_ids=ids, labels=ids).loss > 0


@use
def a_compiled_extension() -> None:
    from torch.utils.cpp_extension import verify_ninja_availability

    verify_ninja_availability()


@use
def uv_and_programs() -> None:
    for program in (
        "uv",
        "make",
        "wget",
        "rsync",
        "tmux -V",
        "vim",
        "htop",
        "git lfs version",
        "ninja",
    ):
        words = program.split()
        words = words if len(words) > 1 else [*words, "--version"]
        subprocess.run(words, check=True, capture_output=True)
    subprocess.run(["unzip", "-v"], check=True, capture_output=True)


@use
def libraries_of_opencv() -> None:
    import ctypes

    for name in ("libGL.so.1", "libgthread-2.0.so.0"):
        ctypes.CDLL(name)


@use
def tqdm_in_a_notebook() -> None:
    if importlib.util.find_spec("ipykernel") is None:
        return
    import tqdm.notebook

    assert sum(tqdm.notebook.tqdm([1, 2], display=False)) == 3


@use
def onnx_export() -> None:
    import onnxruntime
    import torch

    path = str(FOLDER / "m.onnx")
    program = torch.onnx.export(
        torch.nn.Linear(2, 1), (torch.ones(1, 2),), dynamo=True, verbose=False
    )
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.run(None, {session.get_inputs()[0].name: torch.ones(1, 2).numpy()})[0].shape == (
        1,
        1,
    )


def main() -> None:
    """Print the failures."""
    os.chdir(FOLDER)
    failed = {}
    for name, function in USES.items():
        try:
            function()
        except Exception as error:  # noqa: BLE001 - each failure is reported
            failed[name] = f"{type(error).__name__}: {error}"
    sys.stdout.write("\n" + json.dumps(failed) + "\n")


if __name__ == "__main__":
    main()
