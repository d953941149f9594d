"""SimpleNet: a network with one hidden layer, 784 → 128 → 10; ``python simplenet.py`` scores a batch of random images.

The model and its data are on the same device, the GPU if this server has one.
"""

import torch
from torch import nn


class SimpleNet(nn.Module):
    """A classifier for handwritten digits of 28 by 28 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(784, 128)
        self.output = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return ten scores for each image of 784 pixels."""
        return self.output(torch.relu(self.hidden(images)))


if __name__ == "__main__":
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = SimpleNet().to(device)
    images = torch.randn(64, 784, device=device)
    print(model(images).shape)
