"""Packing of many small images; ``python packing.py FOLDER`` creates the images.

A worker process imports ``decode`` by name, so that it has to be in a file and not in a notebook.
"""

import sys
from pathlib import Path

import torch
from workbench_toolkit.data import PackedFiles

ROWS, COLUMNS = 28, 28


def make_images(folder: Path, count: int) -> None:
    """Write ``count`` synthetic images of 28 by 28 grey pixels, each in the folder of its digit.

    Each is noise with two brighter rows per digit: the first two for 0, the next two for 1.
    """
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        digit = index % 10
        image = torch.randint(0, 200, (ROWS, COLUMNS), generator=generator, dtype=torch.uint8)
        image[2 * digit : 2 * digit + 2] += 55
        path = folder / str(digit) / f"{index:06}.raw"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(image.flatten().tolist()))


def decode(name: str, data: bytes) -> tuple[torch.Tensor, int]:
    """Return an image as 784 numbers from 0 to 1, and the digit of its folder."""
    image = torch.frombuffer(bytearray(data), dtype=torch.uint8) / 255
    return image, int(name.split("/")[0])


def open_images() -> PackedFiles:
    """Return the pack of ``wb pack images images.h5``, for ``wb bench-data packing:open_images``."""
    return PackedFiles("images.h5", decode)


if __name__ == "__main__":
    make_images(Path(sys.argv[1]), 2_000)
