"""Every flavor of every release declares what it is, in its manifest, its labels and its list of parts, and is that."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from spawner.catalog import Release
from tests.images.conftest import REPOSITORY, docker, image_of, inspect, run

LOCKS = {"train": ("torch", "train"), "lab": ("lab", "torch", "train"), "serve": ("serve", "torch")}
IMPORT = """
import importlib, json, sys
from importlib.metadata import packages_distributions
modules = {name.lower().replace("_", "-"): module
           for module, names in packages_distributions().items() for name in names
           if not module.startswith("_") and "/" not in module}
failed = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(modules[name.lower()])
    except Exception as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""
DIFFERENT = """
import json, pathlib
path = pathlib.Path("/opt/pytorch/manifest.json")
document = json.loads(path.read_text())
document["cudnn"] = "1.2.3"
document["release"] = "v1.0"
document["flavor"] = "serve" if document["flavor"] == "lab" else "lab"
document["packages"]["numpy"] = "0"
pathlib.Path("/tmp/other.json").write_text(json.dumps(document))
"""
CHANGES = (
    "cd /opt/pytorch/lib/python3.11/site-packages && echo >>idna/__pycache__/core.cpython-311.pyc"
    " && rm idna/core.py && touch sitecustomize.py"
)
"""Python executes the bytecode; its sources say nothing of it."""


@pytest.fixture(params=LOCKS)
def flavor(request: pytest.FixtureRequest) -> str:
    """Each flavor."""
    found: str = request.param
    return found


def manifest_of(image: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(run(image, "cat", "/opt/pytorch/manifest.json"))
    return manifest


def test_manifest_states_what_catalog_and_locks_state(release: Release, flavor: str) -> None:
    manifest = manifest_of(image_of(release, flavor))
    folder = REPOSITORY / "images" / "pytorch-cuda" / release.name
    whole = b"".join((folder / f"{name}.lock").read_bytes() for name in LOCKS[flavor])
    assert (manifest["release"], manifest["flavor"]) == (release.name, flavor)
    assert manifest["lock_sha256"] == hashlib.sha256(whole).hexdigest()
    for key in ("torch", "cuda", "python", "cudnn", "nccl", "driver"):
        assert manifest[key] == getattr(release, key)
    assert manifest["packages"]["torch"] == release.torch
    assert manifest["packages"]["workbench-toolkit"] == "0.1.0"


def test_labels_state_what_the_manifest_states(release: Release, flavor: str) -> None:
    image = image_of(release, flavor)
    labels, manifest = inspect(image)["Config"]["Labels"], manifest_of(image)
    for key in ("release", "flavor", "lock_sha256", "python", "torch", "cuda", "cudnn", "nccl"):
        assert labels[f"workbench.{key}"] == manifest[key]
    assert labels["org.opencontainers.image.revision"] == (manifest["revision"] or "")
    assert labels["org.opencontainers.image.version"] == f"{release.name}-{flavor}"


def test_list_of_parts_holds_every_package(release: Release, flavor: str) -> None:
    image = image_of(release, flavor)
    parts = json.loads(run(image, "cat", "/opt/pytorch/sbom.cdx.json"))
    assert parts["bomFormat"] == "CycloneDX"
    listed = {
        (part["name"].lower().replace("_", "-"), part["version"]) for part in parts["components"]
    }
    assert manifest_of(image)["packages"].items() <= listed
    debian = [part for part in parts["components"] if part.get("purl", "").startswith("pkg:deb/")]
    installed = run(image, "dpkg-query", "-W", "-f", "${Package}\\n").splitlines()
    assert sorted(part["name"] for part in debian) == sorted(installed)


def test_image_is_what_it_declares(release: Release, flavor: str) -> None:
    assert "fails" not in run(image_of(release, flavor), "wb", "verify", "--files")


def test_doctor_finds_nothing_wrong(release: Release, flavor: str) -> None:
    assert f"{release.name} ({flavor})" in run(image_of(release, flavor), "wb", "doctor")


def test_everything_wished_for_can_be_imported(release: Release, flavor: str) -> None:
    wishes = {
        re.split(r"[=<>]", line)[0]
        for name in LOCKS[flavor]
        for line in read_wishes(name)
        if line not in release.without
    }
    found = run(image_of(release, flavor), "python", "-c", IMPORT, *sorted(wishes))
    assert json.loads(found) == {}


def read_wishes(name: str) -> list[str]:
    """Return the lines of a list of wishes; the torch stack is one word of the catalog."""
    path = REPOSITORY / "images" / "pytorch-cuda" / f"{name}.in"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else ["torch"]
    return [line for line in lines if not line.startswith("#")]


def test_what_differs_is_found(release: Release, flavor: str) -> None:
    script = f"python -c '{DIFFERENT}' && wb verify --manifest /tmp/other.json || echo exit $?"
    lines = run(image_of(release, flavor), "sh", "-c", script).splitlines()
    assert lines[-1] == "exit 1"
    assert [line.split()[1] for line in lines if line.startswith("fails")] == [
        "release",
        "flavor",
        "packages",
        "cuDNN",
    ]


def test_changed_files_are_found(release: Release) -> None:
    script = f"{CHANGES}; wb verify --files; echo exit $?"
    options = ("--user=0:0", "--entrypoint=sh")
    lines = docker("run", "--rm", *options, f"{release.image}-train", "-c", script).splitlines()
    assert lines[-1] == "exit 1"
    (found,) = (line for line in lines if line.startswith("fails"))
    for change in (
        "core.cpython-311.pyc (changed)",
        "idna/core.py (missing)",
        "customize.py (not listed)",
    ):
        assert change in found


def test_flavors_share_their_layers(release: Release) -> None:
    layers = {flavor: inspect(image_of(release, flavor))["RootFS"]["Layers"] for flavor in LOCKS}
    torch = 3  # Debian, Python, the torch stack
    train = 6  # and compiler, packages, this repository's files
    assert len({tuple(of[:torch]) for of in layers.values()}) == 1
    assert layers["lab"][:train] == layers["train"][:train]


def test_serve_has_no_jupyter_and_no_compiler(release: Release) -> None:
    image = image_of(release, "serve")
    names = " ".join(manifest_of(image)["packages"])
    assert "jupyter" not in names
    assert "triton" not in names
    assert (
        run(image, "bash", "-c", "for name in gcc cc g++ jupyter pip; do type -P $name; done; true")
        == ""
    )
    assert run(image, "wb", "serve", "--help").startswith("usage: wb serve")


def test_train_has_no_jupyter(release: Release) -> None:
    names = " ".join(manifest_of(image_of(release, "train"))["packages"])
    assert "jupyter" not in names
    assert "tensorboard" in names


def test_no_flavor_runs_as_root(release: Release, flavor: str) -> None:
    image = image_of(release, flavor)
    assert inspect(image)["Config"]["User"] == "1000:1000"
    assert run(image, "sh", "-c", "id -u; id -g", options=("--user=0:0",)).split() == [
        "1000",
        "1000",
    ]
