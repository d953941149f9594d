"""Compares a manifest with what is really installed and loaded.

Every difference is found and named; a thing that the manifest does not declare differs too.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackagePath, distributions
from pathlib import Path
from typing import Any

from workbench_toolkit.doctor.report import Check

ADVICE = "Pull the image again, or start a fresh container of it."
SHOWN = 10
"""How many differences a line names."""


def compare_texts(name: str, declared: object, found: str | None) -> Check:
    """Compare a version, or another text."""
    if declared is not None and found == declared:
        return Check(name, "ok", str(found))
    said = "nothing" if declared is None else declared
    return Check(name, "fails", f"{said} is declared, {found or 'nothing'} is found", ADVICE)


def compare_packages(declared: object, installed: Mapping[str, str]) -> Check:
    """Compare the declared packages, names to versions, with the installed ones."""
    said = declared if isinstance(declared, dict) else {}
    wrong = [
        f"{name} {installed.get(name, 'is missing')} ({said.get(name, 'not declared')})"
        for name in sorted(said.keys() | installed.keys())
        if said.get(name) != installed.get(name)
    ]
    return _summarise("packages", wrong, f"{len(installed)} as declared")


def compare_files(packages: Sequence[Distribution], progress: Callable[[int, int], None]) -> Check:
    """Compare every file of the packages with the hash in its package's own list.

    ``progress`` is told how many of how many packages are done.
    """
    wrong: list[str] = []
    count = 0
    for done, package in enumerate(packages):
        progress(done, len(packages))
        for file in package.files or ():
            if file.hash is not None:
                count += 1
                wrong += _find_damage(file)
    progress(len(packages), len(packages))
    return _summarise("files", wrong, f"{count:,} as packed")


def find_packages(folder: Path) -> list[Distribution]:
    """Return what is installed in ``folder``, without what a user added elsewhere."""
    return list(distributions(path=[str(folder)]))


def read_versions(packages: Sequence[Distribution]) -> dict[str, str]:
    """Return names, as locks write them, to versions."""
    return {
        package.metadata["Name"].lower().replace("_", "-").replace(".", "-"): package.version
        for package in packages
    }


def hash_locks(folder: Path) -> str | None:
    """Return the SHA-256 of the locks one after the other in the order of their names; None without any."""
    locks = sorted(folder.glob("*.lock"))
    whole = b"".join(lock.read_bytes() for lock in locks)
    return hashlib.sha256(whole).hexdigest() if locks else None


def compare_all(manifest: Mapping[str, Any], packages: Sequence[Distribution]) -> Iterator[Check]:
    """Compare everything that takes no long time."""
    yield compare_texts("release", manifest.get("release"), _text(manifest.get("release")))
    yield compare_texts("flavor", manifest.get("flavor"), _text(manifest.get("flavor")))
    yield compare_texts("locks", manifest.get("lock_sha256"), hash_locks(Path(sys.prefix) / "lock"))
    yield compare_packages(manifest.get("packages"), read_versions(packages))
    python = ".".join(map(str, sys.version_info[:2]))
    yield compare_texts("Python", manifest.get("python"), python)
    yield from _compare_stack(manifest)


def _compare_stack(manifest: Mapping[str, Any]) -> Iterator[Check]:
    from workbench_toolkit.doctor.checks import built_for, cudnn_version, nccl_version

    try:
        import torch
    except ImportError as error:
        yield Check("PyTorch", "fails", f"cannot be imported: {error}", ADVICE)
        return
    yield compare_texts("PyTorch", manifest.get("torch"), torch.__version__.partition("+")[0])
    yield compare_texts("CUDA", manifest.get("cuda"), torch.version.cuda)
    yield compare_texts("cuDNN", manifest.get("cudnn"), cudnn_version(torch))
    yield compare_texts("NCCL", manifest.get("nccl"), nccl_version())
    architectures = " ".join(manifest.get("architectures") or ()) or None
    yield compare_texts("architectures", architectures, built_for(torch))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _find_damage(file: PackagePath) -> Iterator[str]:
    assert file.hash is not None  # noqa: S101 - the caller looked
    try:
        with Path(str(file.locate())).open("rb") as stream:
            digest = hashlib.file_digest(stream, file.hash.mode).digest()
    except OSError as error:
        yield f"{file} ({error.strerror})"
        return
    if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
        yield f"{file} (changed)"


def _summarise(name: str, wrong: Sequence[str], fine: str) -> Check:
    if not wrong:
        return Check(name, "ok", fine)
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return Check(name, "fails", f"{len(wrong)} differ: {', '.join(wrong[:SHOWN])}{more}", ADVICE)
