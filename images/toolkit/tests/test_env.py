"""``wb env``: names, folders that are in the way, and what remains after a failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from workbench_toolkit.env.environments import Home, remove_folder
from workbench_toolkit.errors import ToolError
from workbench_toolkit.image import LIBRARY


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(
        tmp_path / ".workbench/environments",
        tmp_path / "kernels",
        tmp_path / ".workbench/packages/v2.7",
    )


def test_an_environment_is_made_once_and_removed(home: Home) -> None:
    made = home.create("old", release_free=False)
    assert list(home.list_environments()) == [made]
    assert made.sees_image
    assert (home.kernels / "old/kernel.json").exists()
    with pytest.raises(ToolError, match="already"):
        home.create("old", release_free=False)
    home.remove(made)
    assert list(home.list_environments()) == []
    assert list(home.environments.iterdir()) == list(home.kernels.iterdir()) == []


def test_a_kernel_of_that_name_stays(home: Home) -> None:
    (home.kernels / "old").mkdir(parents=True)
    with pytest.raises(ToolError, match="There is a kernel"):
        home.create("old", release_free=False)
    assert (home.kernels / "old").exists()
    assert not home.environments.exists()


def test_a_failed_creation_leaves_nothing(home: Home) -> None:
    home.kernels.write_text("")
    with pytest.raises(ToolError, match="cannot be"):
        home.create("old", release_free=False)
    assert list(home.environments.iterdir()) == []


@pytest.mark.parametrize("damage", ["workbench", "packages", "release", "link", "rights"])
def test_a_reset_gets_past_what_is_in_the_way(home: Home, damage: str) -> None:
    folder = home.packages.parent.parent
    if damage == "workbench":
        folder.write_text("kept")
    elif damage == "link":
        folder.symlink_to("/nowhere")
    else:
        folder.mkdir()
        match damage:
            case "packages":
                home.packages.parent.write_text("kept")
            case "release":
                home.packages.parent.mkdir()
                home.packages.write_text("")
            case "rights":
                folder.chmod(0)
    home.reset()
    assert (home.packages / LIBRARY).is_dir()
    if damage in {"workbench", "packages"}:
        (kept,) = [
            *folder.parent.glob("*.old"),
            *folder.parent.glob(".*.old"),
            *folder.glob("*.old"),
        ][:1]
        assert kept.read_text() == "kept"


def test_what_is_not_there_is_removed_already(tmp_path: Path) -> None:
    remove_folder(tmp_path / "absent")
