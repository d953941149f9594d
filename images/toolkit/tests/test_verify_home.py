"""``wb verify`` names what a home changes in the packages that Python imports."""

from __future__ import annotations

from pathlib import Path

import pytest
from workbench_toolkit.image import LIBRARY
from workbench_toolkit.verify.home import check_home, list_modules, list_other_folders

MANIFEST = {"release": "v2.7", "packages": {"half-life": "2"}}


def write_package(folder: Path, version: str) -> None:
    about = folder / f"half_life-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: half_life\nVersion: {version}\n")
    (folder / "half_life.py").write_text("")


def states(tmp_path: Path, *search_path: Path) -> dict[str, tuple[str, str]]:
    image, user = tmp_path / "image", tmp_path / "user"
    paths = ["", *map(str, search_path), str(user / LIBRARY), str(image)]
    checks = check_home(MANIFEST, tmp_path / "home", paths, image=image, user=user)
    return {check.name: (check.state, check.found) for check in checks}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image with one package, an environment without any, and an empty home."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    write_package(tmp_path / "image", "2")
    (tmp_path / "user" / LIBRARY).mkdir(parents=True)
    (tmp_path / "home").mkdir()


def test_a_home_that_changes_nothing_is_fine(tmp_path: Path) -> None:
    assert {state for state, _ in states(tmp_path).values()} == {"ok"}


def test_another_version_of_the_image_s_package_is_named(tmp_path: Path) -> None:
    write_package(tmp_path / "user" / LIBRARY, "1")
    state, found = states(tmp_path)["imports"]
    assert state == "fails"
    assert found.startswith("half-life 1 (2), half_life from ")


def test_a_module_without_a_package_is_named_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "half_life.py").write_text("")
    found = states(tmp_path, tmp_path / "odd")
    assert found["imports"] == ("fails", f"half_life from {tmp_path}/odd/half_life.py")
    assert found["search path"] == ("fails", str(tmp_path / "odd"))


def test_a_package_that_the_image_has_not_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "user" / LIBRARY / "other.py").write_text("")
    assert states(tmp_path)["imports"][0] == "ok"


def test_path_files_and_variables_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "user" / LIBRARY
    (own / "odd.pth").write_text("/nowhere\n")
    (own / "usercustomize.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    found = list(list_other_folders(["", str(own)], tmp_path / "image", own))
    assert found == ["PYTHONPATH=/elsewhere", str(own / "odd.pth"), str(own / "usercustomize.py")]


@pytest.mark.parametrize(
    ("path", "check"),
    [
        (".ipython/profile_default/startup/0.py", "files at the start"),
        (".ipython/profile_default/ipython_config.py", "files at the start"),
        (".local/share/jupyter/kernels/x/kernel.json", "files at the start"),
        (".local/v2.7/lib/python3.11/site-packages/x.py", "earlier packages"),
    ],
)
def test_other_files_of_a_home_are_noted(tmp_path: Path, path: str, check: str) -> None:
    file = tmp_path / "home" / path
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert states(tmp_path)[check][0] == "note"


def test_modules_are_packages_and_files_but_no_namespaces(tmp_path: Path) -> None:
    folder = tmp_path / "modules"
    for name in ("package", "namespace", "a.dist-info"):
        (folder / name).mkdir(parents=True)
    (folder / "package" / "__init__.py").write_text("")
    for name in ("one.py", "two.cpython-311-x86_64-linux-gnu.so", "text.txt"):
        (folder / name).write_text("")
    assert list(list_modules(folder)) == ["one", "package", "two"]
