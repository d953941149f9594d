"""`workbench config check`: prepares a whole hub from the site files, and says the first mistake in one sentence."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testing.paths import ROOT

CHECK = "import sys, pathlib, spawner.hub.config_check as c; sys.exit(c.main(pathlib.Path(sys.argv[1])))"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the check as the hub's image does, with ``folder`` for /etc/workbench."""
    shutil.copy(ROOT / "images/catalog.toml", folder)
    (folder / "docs").symlink_to(ROOT / "docs")
    environment = {name: value for name, value in os.environ.items() if "WORKBENCH" not in name}
    command = [sys.executable, "-c", CHECK, str(folder)]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_examples_of_the_repository_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    for name in ("site", "bounds"):
        (example,) = ROOT.glob(f"config/{name}.example.*")
        shutil.copy(example, tmp_path / "config" / example.name.replace(".example", ""))
    done = check(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Files: site.py.\nAuthenticator: ApprovedSignUp.\n")
    assert "c.JupyterHub.template_vars = {'announcement': 'Maintenance on Friday" in done.stdout


@pytest.mark.parametrize(
    ("site", "sentence"),
    [
        (
            "c.DockerSpawner.volumes = {'/srv/sets': '/data'}",
            "The site files ask for more than bounds.toml allows: no [[mounts]] allows /srv/sets as a writable source.",
        ),
        (
            "c.JupyterHub.active_server_limit = 'many'",
            "The hub cannot start with the site files: TraitError: The 'active_server_limit' trait of a JupyterHub "
            "instance expected an int, not the str 'many'.",
        ),
        (
            "c.DockerSpawner.mem_limit = 'lots'",
            "The hub cannot start with the site files: TraitError: The 'mem_limit' trait of a WorkbenchSpawner "
            "instance expected a callable or an int, not the str 'lots'.",
        ),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, site: str, sentence: str) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/site.py").write_text(site)
    done = check(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{sentence}\n")
