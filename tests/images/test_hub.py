"""One image runs as hub, as proxy and as broker."""

from __future__ import annotations

from spawner.policy.uids import HUB_UID
from tests.images.conftest import inspect, run

IMAGE = "gpu-workbench-hub:local"


def test_hub_proxy_and_broker_are_there() -> None:
    assert run(IMAGE, "jupyterhub", "--version").startswith("6.1.")
    assert run(IMAGE, "workbench-proxy.mjs", "--version").startswith("5.")
    assert run(IMAGE, "python3", "-c", "import spawner.broker; print('ok')") == "ok"


def test_hub_finds_its_pages() -> None:
    script = """
import pathlib, jupyterhub._data
folder = pathlib.Path(jupyterhub._data.DATA_FILES_PATH)
print((folder / "static/css/style.min.css").exists(), (folder / "templates/page.html").exists())
"""
    assert run(IMAGE, "python3", "-c", script) == "True True"


def test_catalog_of_the_image_is_read() -> None:
    script = """
from pathlib import Path
from spawner.catalog import load_catalog
print(load_catalog(Path("/etc/workbench/catalog.toml")).default)
"""
    assert run(IMAGE, "python3", "-c", script).startswith("v")


def test_hub_is_not_root_and_owns_its_folders() -> None:
    assert inspect(IMAGE)["Config"]["User"] == f"{HUB_UID}:{HUB_UID}"
    script = "id -u; touch /data/x /run/workbench/x && ls -A /usr/local/share/ca-certificates"
    assert run(IMAGE, "sh", "-c", script) == str(HUB_UID)


def test_hub_starts_on_a_read_only_root() -> None:
    options = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--tmpfs=/data")
    assert run(IMAGE, "jupyterhub", "--version", options=options).startswith("6.1.")
