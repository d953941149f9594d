"""User packages: prepares an image for packages of a user that come before its own, at build time.

It writes the constraints of pip, the commands that see a user's packages, the kernel and the path of the image.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

PREFIX = Path("/opt/pytorch")
RUN_AS_USER = "/usr/local/bin/workbench-python"
OF_THE_SERVER = ("jupyter", "jlpm")
"""Commands with these beginnings run without a user's packages."""

WITH_TORCH = re.compile(r"(torch|torchvision|torchaudio|triton|(nvidia|cuda)-.+)==\S+")
SERVER = (
    "ipykernel",
    "jupyterhub",
    "jupyter-server",
    "jupyter-server-proxy",
    "jupyterlab",
    "notebook",
)


def list_constraints(locks: Path, wheels: Sequence[Path]) -> Iterator[str]:
    """Yield the versions that stay: PyTorch, CUDA, the server's packages and this repository's own ``wheels``."""
    for lock in sorted(locks.glob("*.lock")):
        for pin in re.findall(
            r"^([a-z0-9-]+==\S+) ", lock.read_text(encoding="utf-8"), re.MULTILINE
        ):
            is_torch = lock.stem in ("torch", "train") and WITH_TORCH.fullmatch(pin)
            if (is_torch and not pin.startswith("nvidia-ml-py")) or pin.partition("==")[
                0
            ] in SERVER:
                yield pin
    for wheel in wheels:
        project, version, *_ = wheel.name.split("-")
        yield f"{project.replace('_', '-')}=={version}"


def write_constraints(locks: Path, wheels: Sequence[Path]) -> None:
    """Write the constraints that pip keeps in a user's environment."""
    lines = sorted(set(list_constraints(locks, wheels)))
    heading = "# The image keeps these versions; wb env create NAME --release-free makes a Python without them.\n"
    (PREFIX / "constraints.txt").write_text(
        heading + "".join(f"{line}\n" for line in lines), encoding="utf-8"
    )


def write_commands() -> None:
    """Write every Python command of the image a second time, so that it sees a user's packages."""
    folder = PREFIX / "commands"
    folder.mkdir()
    shebang = f"#!{PREFIX}/bin/python"
    for source in sorted((PREFIX / "bin").iterdir()):
        if source.is_symlink() or source.name.startswith(OF_THE_SERVER):
            continue
        first, newline, rest = source.read_bytes().partition(b"\n")
        if first.decode(errors="replace").rstrip("3") != shebang:
            continue
        target = folder / source.name
        target.write_bytes(f"#!{RUN_AS_USER}".encode() + newline + rest)
        target.chmod(0o755)
    # It mends an environment, so it runs without one.
    command = folder / "wb"
    command.rename(folder / ".wb")
    command.write_text(
        "#!/bin/sh\n"
        f'[ "${{1-}}" != env ] || exec {PREFIX}/bin/python -I {PREFIX}/bin/wb "$@"\n'
        f'exec {folder}/.wb "$@"\n',
        encoding="utf-8",
    )
    command.chmod(0o755)


def write_kernel() -> None:
    """Let the kernel python3 run a user's environment."""
    path = PREFIX / "share/jupyter/kernels/python3/kernel.json"
    if not path.exists():
        return
    kernel = json.loads(path.read_text(encoding="utf-8"))
    kernel["argv"][0] = RUN_AS_USER
    path.write_text(json.dumps(kernel, indent=1) + "\n", encoding="utf-8")


def write_path() -> None:
    """Make the image's packages visible in every environment with ``--system-site-packages``."""
    (library,) = PREFIX.glob("lib/python3.*/site-packages")
    folder = Path("/usr/local/lib", library.parent.name, "dist-packages")
    folder.mkdir(parents=True, exist_ok=True)
    line = f"import site, sys; sys.prefix == '{PREFIX}' or site.addsitedir('{library}')\n"
    (folder / "image.pth").write_text(line, encoding="utf-8")


if __name__ == "__main__":
    write_constraints(
        PREFIX / "lock" / os.environ["RELEASE"], [Path(word) for word in sys.argv[1:]]
    )
    write_commands()
    write_kernel()
    write_path()
