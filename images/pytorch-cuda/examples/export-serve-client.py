"""Prediction client: ``python export-serve-client.py http://127.0.0.1:8000 FOLDER``.

FOLDER is the output of `wb export`; the client compares the server's answers with the model's own.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

import torch

ROWS = 8


def predict(url: str, images: torch.Tensor) -> torch.Tensor:
    """Return the server's scores for ``images``, one row each."""
    body = json.dumps({"instances": [{"images": image} for image in images.tolist()]})
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("WB_SERVE_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"{url}/predict", body.encode(), headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return torch.tensor([row["output"] for row in json.load(answer)["predictions"]])


def main(url: str, folder: str) -> int:
    """Print the server's digits and the largest difference from the local model."""
    torch.manual_seed(0)
    images = torch.randn(ROWS, 784)
    served = predict(url, images)
    (local,) = torch.jit.load(Path(folder) / "model.pt", map_location="cpu")(images)
    difference = (served - local).abs().max().item()
    print("digits:", served.argmax(1).tolist())
    print("largest difference from the local model:", difference)
    return 0 if difference < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
