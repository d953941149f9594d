"""Today's packages install over the image's from a package index, and run on a CPU with the image's PyTorch."""

from __future__ import annotations

import os

import pytest

from spawner.catalog import Release
from testing.scale import at_scale
from tests.images.conftest import run

CA_BUNDLE = os.environ.get("WORKBENCH_CA_BUNDLE") or "/etc/ssl/certs/ca-certificates.crt"
TRAIN = """
import torch, lightning
from torch.utils.data import DataLoader
class Model(lightning.LightningModule):
    def __init__(self): super().__init__(); self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, _): return self.layer(batch).square().mean()
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), 0.1)
trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Model(), DataLoader(torch.ones(8, 4)))
"""
USES = {
    "transformers==4.52.4": """
import torch, transformers
assert transformers.__version__ == "4.52.4"
config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16)
transformers.GPT2LMHeadModel(config)(torch.ones(1, 3, dtype=torch.long))
""",
    "numpy==1.26.4": """
import numpy, torch
assert numpy.__version__ == "1.26.4"
torch.from_numpy(numpy.ones(3)).sum()
""",
    "lightning": TRAIN,
    "trl": "from trl import SFTConfig, SFTTrainer",
    "bitsandbytes": "import bitsandbytes, torch; bitsandbytes.nn.Linear8bitLt(4, 4)",
    "deepspeed": "import deepspeed",
    "wandb": "import wandb; run = wandb.init(mode='offline', dir='/tmp'); run.log({'loss': 1}); run.finish()",
    "lm-eval": "import lm_eval.tasks; lm_eval.tasks.TaskManager()",
    "xformers": "import torch, xformers.ops",
}
"""By the requirement: a program that uses it."""


@pytest.mark.parametrize("wish", at_scale(["transformers==4.52.4"], list(USES)))
def test_a_package_is_installed_from_an_index_and_runs(
    release: Release, volume: str, wish: str
) -> None:
    options = (
        *(f"--volume={volume}:/home/researcher", f"--volume={CA_BUNDLE}:/ca.crt:ro"),
        *("--env=PIP_CERT=/ca.crt", "--read-only", "--tmpfs=/tmp:exec", f"--env=USE={USES[wish]}"),
    )
    torch = "python -c 'import torch; print(torch.__version__.partition(\"+\")[0], torch.__file__)'"
    script = f'pip install --quiet "{wish}" && python -c "$USE" >&2 && {torch}'
    printed = run(release.image, "bash", "-lc", script, options=options)
    version, place = printed.splitlines()[-1].split()
    assert version == release.torch
    assert place.startswith("/opt/pytorch/")
