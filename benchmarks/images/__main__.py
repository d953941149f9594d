"""Measures the size of each release against its floor: bare ``pip install torch`` in the same base.

Sizes are what Docker keeps on disk, in bytes; the floor is rebuilt when its base changed.
Usage: ``python -m benchmarks.images [--json FILE]``, after ``scripts/up`` or with the images built.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from pathlib import Path

from spawner.catalog import Release, load_catalog

HERE = Path(__file__).parent
CATALOG = HERE.parents[1] / "images" / "catalog.toml"
CA_BUNDLE = os.environ.get("WORKBENCH_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
LARGE_BYTES = 10_000_000
SITE_PACKAGES = "/opt/pytorch/lib/python*/site-packages"


def docker(*arguments: str) -> str:
    """Run docker and return its output; a failure raises with what docker said."""
    done = subprocess.run(["docker", *arguments], check=True, text=True, capture_output=True)  # noqa: S603, S607
    return done.stdout.strip()


def build_floor(torch: str) -> str:
    """Build the floor image of a torch version and return its name."""
    name = f"workbench-bench-floor:{torch}"
    secret = ("--secret", f"id=ca,src={CA_BUNDLE}") if Path(CA_BUNDLE).exists() else ()
    docker("build", "--quiet", *secret, "--build-arg", f"TORCH={torch}", "--tag", name, str(HERE))
    return name


def image_bytes(image: str) -> int:
    """Return the bytes of all layers of an image."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


def large_layers(image: str) -> list[tuple[int, str]]:
    """Return (bytes, command) of the layers above ``LARGE_BYTES``, largest first."""
    rows = docker(
        "history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", image
    )
    layers = []
    for row in rows.splitlines():
        size, _, command = row.partition("\t")
        words = re.sub(r"^.*/bin/sh -c |# buildkit|\{ \[.*?\} && ", "", command).split()
        layers.append((int(size), " ".join(words)[:100] or "the base"))
    return sorted((layer for layer in layers if layer[0] > LARGE_BYTES), reverse=True)


def large_packages(image: str) -> list[tuple[int, str]]:
    """Return (bytes, name) of the largest folders of the installed Python packages."""
    script = f"du --bytes --max-depth=1 {SITE_PACKAGES} | sort -rn | sed 1d | head -n 12"
    rows = docker("run", "--rm", image, "sh", "-c", script).splitlines()
    return [(int(size), Path(folder).name) for size, folder in (row.split() for row in rows)]


def measure(release: Release) -> dict[str, object]:
    """Return sizes and ratio of one release and where its bytes lie."""
    floor = image_bytes(build_floor(release.torch))
    size = image_bytes(release.image)
    return {
        "image": release.image,
        "image_bytes": size,
        "floor_bytes": floor,
        "ratio": round(size / floor, 3),
        "layers": large_layers(release.image),
        "packages": large_packages(release.image),
    }


def main() -> None:
    """Print each release's size, its floor, the ratio and what takes the space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(release) for release in load_catalog(CATALOG).releases.values()]
    for row in rows:
        print(
            f"{row['image']}: {row['image_bytes']} bytes, floor {row['floor_bytes']}, ratio {row['ratio']}"
        )
        for part in ("layers", "packages"):
            for size, name in row[part]:  # type: ignore[attr-defined]
                print(f"  {size / 1e6:7.0f} MB  {name}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
