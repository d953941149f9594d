"""The images' entrypoint runs no program of the home, whose folder comes first in the image's PATH."""

import os
from pathlib import Path

import pytest

from testing.paths import ROOT
from testing.stack import run

ENTRYPOINT = ROOT / "images/pytorch-cuda/entrypoint"


@pytest.mark.skipif(os.getuid() != 0, reason="a container that starts as root drops root first")
def test_root_is_dropped_by_the_image_s_own_program(tmp_path: Path) -> None:
    for name in ("setpriv", "true"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 9\n")
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": "/tmp"}
    shown = run("/bin/sh", str(ENTRYPOINT), "/usr/bin/id", "-u", env=environment)
    assert not (tmp_path / "ran").exists()
    assert "would run as root" not in shown.stderr


def test_docker_starts_the_entrypoint_by_its_path() -> None:
    dockerfile = (ROOT / "images/pytorch-cuda/Dockerfile").read_text()
    assert 'ENTRYPOINT ["/usr/local/bin/entrypoint"]' in dockerfile
