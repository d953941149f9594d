"""An unmodified script with transformers' Trainer stops with a checkpoint and continues at the same step."""

from __future__ import annotations

import json
from pathlib import Path

from train_helpers import output_of, run, stop, training, wait_until

SCRIPT = """
import pathlib, sys, time
import torch, transformers

class Record(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.is_world_process_zero:
            with open("steps", "a") as file: print(state.global_step, file=file)
        time.sleep(0.05)

config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=8)
ids = torch.arange(64 * 4).reshape(64, 4) % 16
data = [{"input_ids": row, "labels": row} for row in ids]
args = transformers.TrainingArguments(
    "out", max_steps=int(sys.argv[1]), per_device_train_batch_size=2, save_strategy="no", eval_strategy="epoch",
    report_to=[], use_cpu=True, disable_tqdm=True,
)
trainer = transformers.Trainer(transformers.GPT2LMHeadModel(config), args, train_dataset=data, eval_dataset=data[:4])
trainer.add_callback(Record())
print("final step", trainer.train().global_step)
"""


def steps(folder: Path) -> list[int]:
    path = folder / "steps"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_a_trainer_stops_and_continues_at_the_same_step(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    with training(tmp_path, "--nproc", 2, "--", "script.py", 100) as process:
        wait_until(lambda: len(steps(tmp_path)) >= 3, "the training runs")
        assert stop(process) == 75, output_of(tmp_path)
    first = steps(tmp_path)
    last = first[-1]
    assert last < 100
    assert "final step" not in output_of(tmp_path), "the rest of the script does not run"
    assert "[default0]" in output_of(tmp_path)
    assert "[default1]" not in output_of(tmp_path), "the terminal has rank 0's output"
    mark = tmp_path / "out" / "wb-resume.json"
    assert json.loads(mark.read_text()) == {"checkpoint": f"checkpoint-{last}"}
    # one process: with several on a CPU, transformers itself cannot read its checkpoint
    code, output = run(tmp_path, "--nproc", 1, "--", "script.py", last + 4)
    assert code == 0, output
    assert f"final step {last + 4}" in output
    assert steps(tmp_path)[len(first) :] == [last + number for number in (1, 2, 3, 4)]
    assert not mark.exists(), "a training that ended starts from the beginning"
