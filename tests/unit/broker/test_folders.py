"""Folders: what the broker sees of a folder of the host decides whether it may be mounted."""

from pathlib import Path

import pytest

from spawner.broker.folders import explain_unsafe_folder

BOUNDS = ("/srv/sets", "/srv/sets/team/ada")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for folder in ("srv/sets/imaging/raw", "srv/sets/team/ada", "srv/sets/team/bob", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "srv/sets/one.bin").write_text("data")
    (tmp_path / "srv/sets/link").symlink_to("/etc")
    (tmp_path / "srv/sets/team").chmod(0o777)
    return tmp_path


@pytest.mark.parametrize(
    "source",
    ["/srv/sets", "/srv/sets/imaging", "/srv/sets/imaging/raw", "/srv/sets/one.bin", "/srv/sets/team/ada"],
)  # fmt: skip
def test_a_plain_folder_may_be_mounted(host: Path, source: str) -> None:
    assert explain_unsafe_folder(source, BOUNDS, host) is None


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("/etc", "in no folder of bounds.toml"),
        ("/srv/sets2", "in no folder of bounds.toml"),
        ("/srv/sets/link", "/srv/sets/link is a link"),
        ("/srv/sets/link/ssh", "/srv/sets/link is a link"),
        ("/srv/sets/none", "No such file"),
        ("/srv/sets/team/bob", "other users than root can put a link into /srv/sets/team"),
        ("/srv/sets/one.bin/x", "/srv/sets/one.bin is no folder"),
    ],
)
def test_a_way_that_may_lead_elsewhere_is_refused(host: Path, source: str, why: str) -> None:
    assert why in (explain_unsafe_folder(source, BOUNDS, host) or "")
