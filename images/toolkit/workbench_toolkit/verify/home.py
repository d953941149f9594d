"""Home: finds what a home changes in the packages that Python imports.

It reads the search path, ``.pth`` files, PYTHONPATH, kernels, IPython's start files and packages of earlier images.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from workbench_toolkit.doctor.report import Check
from workbench_toolkit.image import LIBRARY, PREFIX, get_user_packages
from workbench_toolkit.verify.compare import MAX_SHOWN, read_versions

ADVICE = "Remove your packages with wb env reset, or start without them."
START_FILES = (
    ".ipython/profile_default/startup/*.py",
    ".ipython/profile_default/startup/*.ipy",
    ".ipython/profile_default/ipython*_config.py",
    ".local/share/jupyter/kernels/*/kernel.json",
)


def check_home(
    manifest: Mapping[str, Any],
    home: Path,
    search_path: Sequence[str],
    *,
    image: Path = PREFIX / LIBRARY,
    user: Path | None = None,
) -> Iterator[Check]:
    """Run all checks; ``image`` has the image's packages, and ``user`` is the environment with the user's."""
    user = user or get_user_packages()
    own = None if user is None else user / LIBRARY
    yield _join("imports", list_other_imports(manifest, search_path, image, own), ADVICE)
    yield _join("search path", list_other_folders(search_path, image, own), ADVICE)
    files = [
        str(path.relative_to(home)) for name in START_FILES for path in sorted(home.glob(name))
    ]
    yield _join(
        "files at the start", files, "A kernel executes them; rename them to be sure.", "note"
    )
    release = manifest.get("release")
    earlier = [str(path) for path in sorted(home.glob(f".local/{release}/lib/*/site-packages"))]
    advice = "They are not imported: install again those that you need, then remove the folder."
    yield _join("earlier packages", earlier, advice, "note")


def list_other_imports(
    manifest: Mapping[str, Any], search_path: Sequence[str], image: Path, own: Path | None
) -> Iterator[str]:
    """Yield each package and module of the image that Python finds elsewhere."""
    declared = manifest.get("packages")
    versions = read_versions(list(distributions(path=[str(own)]))) if own else {}
    for name in sorted(versions.keys() & (declared if isinstance(declared, dict) else {}).keys()):
        yield f"{name} {versions[name]} ({declared[name]})"  # type: ignore[index]
    places = [place for place in search_path if Path(place).resolve() != image]
    for module in list_modules(image):
        found = PathFinder.find_spec(module, [*search_path])
        place = _get_place(found)
        if place is not None and not _is_of_image(place, image) and places:
            yield f"{module} from {place}"


def list_modules(folder: Path) -> Iterator[str]:
    """Yield the names of the modules in ``folder``, without namespaces, which may have several folders."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        is_package = path.is_dir() and (path / "__init__.py").exists()
        name = path.name if is_package else path.name.partition(".")[0]
        if name.isidentifier() and (is_package or path.suffix in {".py", ".so"}):
            yield name


def list_other_folders(search_path: Sequence[str], image: Path, own: Path | None) -> Iterator[str]:
    """Yield folders of the search path that neither the image nor the environment has, and files that add such."""
    if given := os.environ.get("PYTHONPATH"):
        yield f"PYTHONPATH={given}"
    known = {image, own, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))}
    for place in map(Path, search_path[1:]):  # the first one has the running program
        if place not in known and not place.is_relative_to(sys.base_prefix):
            yield str(place)
    for path in sorted(own.glob("*.pth")) if own else ():
        yield str(path)
    for name in ("sitecustomize", "usercustomize"):
        found = _get_place(PathFinder.find_spec(name, [*search_path]))
        # --files compares those of the image
        if found is not None and not _is_of_image(found, image):
            yield str(found)


def _is_of_image(place: Path, image: Path) -> bool:
    """Return whether ``place`` is below the image's packages or its Python, which no user changes."""
    return any(place.is_relative_to(folder) for folder in (image, sys.base_prefix))


def _get_place(spec: Any) -> Path | None:  # noqa: ANN401 - a module's specification, or None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _join(
    name: str, found: Iterator[str] | Sequence[str], advice: str, state: str = "fails"
) -> Check:
    listed = list(found)
    if not listed:
        return Check(name, "ok", "as in the image" if state == "fails" else "none")
    more = f" and {len(listed) - MAX_SHOWN} more" if len(listed) > MAX_SHOWN else ""
    return Check(name, state, ", ".join(listed[:MAX_SHOWN]) + more, advice)
