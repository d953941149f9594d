"""Guard state: only a fresh word of this boot counts."""

import json
from pathlib import Path

import pytest

from spawner import guard_state
from spawner.guard_state import MAX_AGE_SECONDS, require_guard, write_guard_state
from spawner.model import Unknown


def test_a_fresh_word_counts(tmp_path: Path) -> None:
    write_guard_state(tmp_path / "state.json", "")
    require_guard(tmp_path / "state.json")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_problem_is_passed_on(tmp_path: Path) -> None:
    write_guard_state(tmp_path / "state.json", "The walls are down.")
    with pytest.raises(Unknown, match=r"^The walls are down\.$"):
        require_guard(tmp_path / "state.json")


@pytest.mark.parametrize("age", [MAX_AGE_SECONDS + 1, -1.0])
def test_an_old_word_or_one_of_the_future_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    file = tmp_path / "state.json"
    write_guard_state(file, "")
    written = json.loads(file.read_text())["at"]
    monkeypatch.setattr(guard_state, "_seconds_since_boot", lambda: written + age)
    with pytest.raises(Unknown, match="has not reported"):
        require_guard(file)


def test_a_word_of_an_earlier_boot_is_none(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_guard_state(file, "")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"boot_id": "other"}))
    with pytest.raises(Unknown, match="has not reported"):
        require_guard(file)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "null", '{"boot_id": 1, "at": "x"}'])
def test_what_cannot_be_read_is_unknown(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "state.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Unknown, match="cannot be read"):
        require_guard(file)
