"""Comparison: compares a manifest with the installed packages and the loaded libraries.

Every difference is named; an undeclared value is a difference too.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, NamedTuple

from workbench_toolkit.doctor.report import Check
from workbench_toolkit.image import PREFIX
from workbench_toolkit.verify.files import UNREADABLE

ADVICE = "Pull the image again, or start a new container of it."
FLAVORS = ("lab", "train", "serve")
"""In this order, because lab has the lock of train too."""

MAX_SHOWN = 10
"""The number of differences in one line."""


def compare_texts(name: str, declared: object, found: str | None) -> Check:
    """Compare a declared text with the found one."""
    if declared is not None and found == declared:
        return Check(name, "ok", str(found))
    expected = "nothing" if declared is None else declared
    return Check(name, "fails", f"{expected} is declared, {found or 'nothing'} is found", ADVICE)


def compare_packages(declared: object, installed: Mapping[str, str]) -> Check:
    """Compare the declared packages, names to versions, with the installed ones."""
    expected = declared if isinstance(declared, dict) else {}
    wrong = [
        f"{name} {installed.get(name, 'is missing')} ({expected.get(name, 'not declared')})"
        for name in sorted(expected.keys() | installed.keys())
        if expected.get(name) != installed.get(name)
    ]
    return _build_check("packages", wrong, f"{len(installed)} as declared")


def compare_files(listed: Mapping[str, str], found: Mapping[str, str]) -> Check:
    """Compare the listed files, paths to hashes, with the found ones."""
    wrong = [
        f"{name} ({_describe_difference(name, listed, found)})"
        for name in sorted(listed.keys() | found.keys())
        if listed.get(name) != found.get(name)
    ]
    if not listed:
        wrong = ["there is no list of files"]
    return _build_check("files", wrong, f"{len(found):,} as built")


def list_packages(folder: Path) -> list[Distribution]:
    """Return the packages in ``folder``; a user's own packages are elsewhere."""
    return list(distributions(path=[str(folder)]))


def read_versions(packages: Sequence[Distribution]) -> dict[str, str]:
    """Return versions by name, in the spelling of the locks."""
    return {
        package.metadata["Name"].lower().replace("_", "-").replace(".", "-"): package.version
        for package in packages
    }


class Locks(NamedTuple):
    """The locks of an image; ``sha256`` covers their concatenation in the order of their names."""

    release: str | None
    flavor: str | None
    sha256: str | None


def read_locks(folder: Path) -> Locks:
    """Return the locks below ``folder``, in a folder named as their release; None without locks."""
    locks = sorted(folder.glob("*/*.lock"))
    if not locks:
        return Locks(None, None, None)
    releases = sorted({lock.parent.name for lock in locks})
    names = {lock.stem for lock in locks}
    flavor = next((flavor for flavor in FLAVORS if flavor in names), None)
    whole = b"".join(lock.read_bytes() for lock in locks)
    return Locks(" and ".join(releases), flavor, hashlib.sha256(whole).hexdigest())


def compare_all(manifest: Mapping[str, Any], packages: Sequence[Distribution]) -> Iterator[Check]:
    """Run all comparisons except the files."""
    locks = read_locks(PREFIX / "lock")
    yield compare_texts("release", manifest.get("release"), locks.release)
    yield compare_texts("flavor", manifest.get("flavor"), locks.flavor)
    yield compare_texts("locks", manifest.get("lock_sha256"), locks.sha256)
    yield compare_packages(manifest.get("packages"), read_versions(packages))
    python = ".".join(map(str, sys.version_info[:2]))
    yield compare_texts("Python", manifest.get("python"), python)
    yield from _compare_stack(manifest)


def _compare_stack(manifest: Mapping[str, Any]) -> Iterator[Check]:
    from workbench_toolkit.doctor.checks import compiled_architectures, cudnn_version, nccl_version

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
    yield compare_texts("architectures", architectures, compiled_architectures(torch))


def _describe_difference(name: str, listed: Mapping[str, str], found: Mapping[str, str]) -> str:
    if name not in found:
        return "missing"
    if found[name] == UNREADABLE:
        return UNREADABLE
    return "changed" if name in listed else "not listed"


def _build_check(name: str, wrong: Sequence[str], fine: str) -> Check:
    if not wrong:
        return Check(name, "ok", fine)
    more = f" and {len(wrong) - MAX_SHOWN} more" if len(wrong) > MAX_SHOWN else ""
    shown = ", ".join(wrong[:MAX_SHOWN])
    return Check(name, "fails", f"{len(wrong)} differ: {shown}{more}", ADVICE)
