"""Catalog: reads ``images/catalog.toml``, the only list of releases.

The schema is strict, because an incomplete release entry would produce an incomplete image.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

from spawner.model import SettingsError

_NAME = r"v[0-9]+(\.[0-9]+)*"
_PATTERNS = {
    "image": r"[a-z0-9]+([._-][a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}",
    "title": r"\S.{0,78}\S",
    "torch": r"[0-9]+\.[0-9]+\.[0-9]+",
    "cuda": r"[0-9]+\.[0-9]+",
    "python": r"3\.[0-9]+",
    "cudnn": r"[0-9]+\.[0-9]+\.[0-9]+",
    "nccl": r"[0-9]+\.[0-9]+\.[0-9]+",
    "driver": r"[0-9]+(\.[0-9]+){0,2}",
    "packages_before": r"20[0-9]{2}-[0-9]{2}-[0-9]{2}",
}
_LISTS = {
    "architectures": (r"(sm|compute)_[1-9][0-9]{1,2}", '["sm_80", "sm_90", "compute_90"]'),
    "constraints": (r"[a-z0-9-]+(==|<|>=)[0-9]+(\.[0-9]+)*", '["torchaudio==2.7.1"]'),
    "without": (r"[a-z0-9-]+", '["torchaudio"]'),
}
"""Pattern of each item, and an example of the list; only ``without`` may be empty."""
_EXAMPLES = {
    "image": "pytorch-cuda:v2.7",
    "title": "PyTorch 2.7 · CUDA 12.6",
    "torch": "2.7.1",
    "cuda": "12.6",
    "python": "3.11",
    "cudnn": "9.5.1",
    "nccl": "2.26.2",
    "driver": "525.60.13",
    "packages_before": "2025-12-01",
}


@dataclass(frozen=True)
class Release:
    """One release of the image; ``torch``, ``cuda``, ``python``, ``cudnn`` and ``nccl`` are versions.

    ``driver`` is the minimum NVIDIA driver of its CUDA version. ``architectures`` are the build targets of its PyTorch:
    ``sm_90`` is machine code, and ``compute_90`` is PTX, which the driver compiles for newer GPUs. ``packages_before``
    is a date: other packages are older, so that they were tested with this PyTorch. ``constraints``
    pins packages that fit its PyTorch but do not declare it. ``without`` lists packages that have no fitting version,
    so the image omits them.
    """

    name: str
    image: str
    title: str
    torch: str
    cuda: str
    python: str
    cudnn: str
    nccl: str
    driver: str
    packages_before: str
    architectures: tuple[str, ...]
    constraints: tuple[str, ...]
    without: tuple[str, ...]


@dataclass(frozen=True)
class Catalog:
    """All releases by name, in file order; ``default`` is one of the names."""

    default: str
    releases: Mapping[str, Release]

    def choose(self, names: Collection[str]) -> Catalog:
        """Return the catalog of the releases ``names``, or of the default release if ``names`` is empty.

        The first name becomes the default if ``names`` lacks the catalog's default. Raises SettingsError.
        """
        for name in names:
            if name not in self.releases:
                known = ", ".join(self.releases)
                raise SettingsError(
                    f"WORKBENCH_RELEASES names {name!r}, which is not in the catalog: choose one of {known}."
                )
        chosen = {name: self.releases[name] for name in names or (self.default,)}
        default = self.default if self.default in chosen else next(iter(chosen))
        return Catalog(default, MappingProxyType(chosen))


def load_catalog(path: Path) -> Catalog:
    """Return the catalog of a TOML file; the SettingsError names the file and the fix."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The catalog {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise SettingsError(f"The catalog {path} is not valid TOML: {error}.") from error
    try:
        return _parse(document)
    except ValueError as error:
        raise SettingsError(f"The catalog {path} cannot be used: {error}.") from None


def _parse(document: dict[str, object]) -> Catalog:
    _require_keys(document, {"default", "releases"}, "the file")
    tables = document["releases"]
    if not isinstance(tables, dict) or not tables:
        raise ValueError('it needs at least one [releases."v…"] table')
    releases = {name: _parse_release(name, table) for name, table in tables.items()}
    images = [release.image for release in releases.values()]
    if len(set(images)) < len(images):
        raise ValueError("two releases name the same image; give each its own tag")
    default = document["default"]
    if not isinstance(default, str) or default not in releases:
        raise ValueError(f"default = {default!r} is not one of its releases: {', '.join(releases)}")
    return Catalog(default, MappingProxyType(releases))


def _parse_release(name: str, table: object) -> Release:
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"{name!r} is not a release name such as v2.7")
    if not isinstance(table, dict):
        raise ValueError(f"releases.{name} must be a table")  # noqa: TRY004
    _require_keys(table, {f.name for f in fields(Release)} - {"name"}, f"release {name}")
    lists = {key: _parse_list(name, key, table[key]) for key in _LISTS}
    for key, pattern in _PATTERNS.items():
        if not isinstance(table[key], str) or not re.fullmatch(pattern, table[key]):
            raise ValueError(
                f"release {name} has {key} = {table[key]!r}, which must be text such as"
                f' "{_EXAMPLES[key]}"'
            )
    return Release(name=name, **{**table, **lists})


def _parse_list(name: str, key: str, value: object) -> tuple[str, ...]:
    pattern, example = _LISTS[key]
    words = value if isinstance(value, list) else None
    if (
        words is None
        or not (words or key == "without")
        or not all(re.fullmatch(pattern, str(word)) for word in words)
    ):
        raise ValueError(
            f"release {name} has {key} = {value!r}, which must be a list such as {example}"
        )
    return tuple(words)


def _require_keys(table: Mapping[str, object], keys: set[str], where: str) -> None:
    if missing := sorted(keys - table.keys()):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(table.keys() - keys):
        raise ValueError(f"{where} has unknown keys: {', '.join(unknown)}")
