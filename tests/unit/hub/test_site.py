"""Site files: what they may set, what stays the workbench's, and the sentence for every mistake."""

from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from spawner.hub.site import list_site_files, read_site_files
from spawner.model import SettingsError


def fresh() -> Config:
    c = Config()
    c.JupyterHub.services = [{"name": "queue"}]
    c.JupyterHub.template_paths = ["/ours"]
    c.JupyterHub.template_vars = {"help_pages": "ours"}
    c.Authenticator.admin_users = {"admin"}
    return c


def read(folder: Path, text: str, c: Config | None = None) -> Config:
    (folder / "site.py").write_text(text)
    c = c or fresh()
    read_site_files(c, folder)
    return c


def test_no_folder_is_no_site_file(tmp_path: Path) -> None:
    assert read_site_files(fresh(), tmp_path / "none") == {}


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    more = tmp_path / "config.d"
    more.mkdir()
    for name in ("20-b.py", "10-a.py", ".hidden.py", "notes.txt"):
        (more / name).write_text(f"c.JupyterHub.active_server_limit = {len(name)}")
    (tmp_path / "site.py").write_text("c.JupyterHub.active_server_limit = 1")
    assert [file.name for file in list_site_files(tmp_path)] == ["site.py", "10-a.py", "20-b.py"]
    c = fresh()
    assert read_site_files(c, tmp_path) == {"c.JupyterHub.active_server_limit": 7}


@pytest.mark.parametrize(
    "text",
    [
        "c.JupyterHub.services = [{'name': 'mine'}]; c.JupyterHub.template_paths = ['/mine']; "
        "c.JupyterHub.template_vars = {'announcement': 'hi'}; c.Authenticator.admin_users = {'ada'}",
        "c = get_config(); c.JupyterHub.services.append({'name': 'mine'}); "
        "c.JupyterHub.template_paths.insert(0, '/mine'); c.JupyterHub.template_vars['announcement'] = 'hi'; "
        "c.Authenticator.admin_users.add('ada')",
    ],
)
def test_a_file_adds_and_takes_nothing_away(tmp_path: Path, text: str) -> None:
    c = read(tmp_path, text)
    assert c.JupyterHub.services == [{"name": "queue"}, {"name": "mine"}]
    assert c.JupyterHub.template_paths == ["/mine", "/ours"]
    assert c.JupyterHub.template_vars == {"help_pages": "ours", "announcement": "hi"}
    assert c.Authenticator.admin_users == {"admin", "ada"}


def test_a_later_file_replaces_what_an_earlier_one_added(tmp_path: Path) -> None:
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d/1.py").write_text(
        "c.JupyterHub.template_vars = {'announcement': 'later'}"
    )
    c = read(tmp_path, "c.JupyterHub.template_vars = {'announcement': 'first'}")
    assert c.JupyterHub.template_vars["announcement"] == "later"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("\nx = (", "site.py, line 2: '(' was never closed."),
        ("1 / 0", "site.py, line 1: ZeroDivisionError: division by zero."),
        ("import sys\nsys.exit('no')", "site.py, line 2: SystemExit: no."),
        ("c.JupyterHub.port = 1", "site.py cannot set c.JupyterHub.port: use WORKBENCH_PORT."),
        (
            "c.DockerSpawner.port = 1",
            "site.py cannot set c.DockerSpawner.port: the workbench builds each server from its lease.",
        ),
        (
            "c.JupyterHub.template_vars = {'help_pages': 'mine'}",
            "site.py cannot set 'help_pages' in c.JupyterHub.template_vars: the workbench sets it.",
        ),
        (
            "c.JupyterHub.log_levl = 10",
            "site.py sets c.JupyterHub.log_levl, but JupyterHub has no such trait (did you mean log_level?).",
        ),
        (
            "c.Jupyterhub.log_level = 10",
            "site.py sets c.Jupyterhub.log_level, but no part of the hub has this name (did you mean JupyterHub?). "
            "WORKBENCH_AUTHENTICATOR chooses the authenticator.",
        ),
        (
            "c.log_level = 10",
            "site.py sets c.log_level, but a trait belongs to a class: write c.JupyterHub.log_level, for example.",
        ),
        (
            "c.JupyterHub.authenticator_class = 'no.such.Class'",
            "site.py sets c.JupyterHub.authenticator_class to 'no.such.Class', but no such authenticator is installed.",
        ),
        (
            "read_secret('client')",
            "site.py needs the secret client: write it into the file secrets/client next to site.py.",
        ),
        ("load_subconfig('more.py')", "more.py cannot be read: No such file or directory."),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, text)
    assert str(refused.value) == sentence


def test_a_secret_is_read_without_its_line_break(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/client").write_text("hush\n")
    c = read(tmp_path, "c.JupyterHub.template_vars = {'s': read_secret('client')}")
    assert c.JupyterHub.template_vars["s"] == "hush"


def test_the_helpers_of_jupyterhubs_own_files_exist(tmp_path: Path) -> None:
    (tmp_path / "more.py").write_text("get_config().JupyterHub.log_level = 10")
    c: Any = read(tmp_path, "load_subconfig('more.py')\nassert __file__.endswith('site.py')")
    assert c.JupyterHub.log_level == 10


def test_only_the_added_part_of_a_merged_trait_is_reported(tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text(
        "c.JupyterHub.services.append({'name': 'mine'}); c.Authenticator.admin_users = {'ada'}; "
        "c.JupyterHub.template_vars['announcement'] = 'hi'"
    )
    assert read_site_files(fresh(), tmp_path) == {
        "c.JupyterHub.services": [{"name": "mine"}],
        "c.JupyterHub.template_vars": {"announcement": "hi"},
        "c.Authenticator.admin_users": {"ada"},
    }
