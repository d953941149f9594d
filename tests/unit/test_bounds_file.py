"""The bounds file: absent, read, broken."""

from pathlib import Path

import pytest

from spawner.bounds_file import load_bounds
from spawner.model import SettingsError
from spawner.policy.bounds import Bounds


def test_no_file_allows_nothing(tmp_path: Path) -> None:
    assert load_bounds(tmp_path / "bounds.toml", "workbench") == Bounds()


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "bounds.toml"
    file.write_text('memory = "1G"\n[[mounts]]\nsource = "/srv/sets"\n')
    bounds = load_bounds(file, "workbench")
    assert (bounds.memory_bytes, bounds.folders) == (1024**3, ("/srv/sets",))


@pytest.mark.parametrize("text", ["memory = ", "memory = 1\nmemory = 2", "\x00"])
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bounds.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"^bounds\.toml cannot be read: "):
        load_bounds(file, "workbench")
