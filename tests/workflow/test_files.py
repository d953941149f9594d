"""Files that one flavor of one release made: every flavor of every built release reads them, or says why not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from testing.stack import docker
from tests.workflow.conftest import CATALOG, UID

FLAVORS = ("", "-train", "-serve")
TOLERANCE = 1e-4
"""The largest difference of two releases' scores: other kernels add up in another order."""

MAKE = """
set -eu
cp ~/examples/packing.py ~/examples/simplenet.py .
python - <<'END'
import json, pathlib, torch
from packing import make_images
from simplenet import SimpleNet
from workbench_toolkit.checkpointing import Checkpointer
make_images(pathlib.Path("images"), 50)
torch.manual_seed(1)
model, images = SimpleNet(), torch.rand(4, 784)
Checkpointer("checkpoint.pt").save({"model": model.state_dict(), "epoch": 3})
scores = model(images).tolist()
pathlib.Path("expected.json").write_text(json.dumps({"images": images.tolist(), "scores": scores}))
END
wb pack images images.h5
wb pack images images.lmdb
wb export simplenet.py:SimpleNet --checkpoint checkpoint.pt --input images=4x784 --out model
"""

READ = """
import json, pathlib, sys
import onnxruntime, torch
from workbench_toolkit.errors import ToolError
from workbench_toolkit.checkpointing.checkpoint import load_checkpoint

def differ(scores):
    return (torch.as_tensor(scores) - torch.tensor(expected["scores"])).abs().max().item()

def read(pack):
    try:
        from workbench_toolkit.data import PackedFiles
        files = PackedFiles(pack)
        return [len(files), files.digest, files[7].name, sum(files[7].data)]
    except ToolError as error:
        return str(error)

found = {}
for folder in map(pathlib.Path, sys.argv[1:]):
    expected = json.loads((folder / "expected.json").read_text())
    images = torch.tensor(expected["images"])
    sys.path.insert(0, str(folder))
    from simplenet import SimpleNet
    network = SimpleNet()
    network.load_state_dict(load_checkpoint(folder / "checkpoint.pt")["model"])
    session = onnxruntime.InferenceSession(folder / "model/model.onnx", providers=["CPUExecutionProvider"])
    found[folder.name] = {
        "checkpoint": differ(network(images).detach()),
        "TorchScript": differ(torch.jit.load(folder / "model/model.pt")(images)[0].detach()),
        "ONNX": differ(session.run(None, {"images": images.numpy()})[0]),
        "h5": read(folder / "images.h5"),
        "lmdb": read(folder / "images.lmdb"),
    }
print(json.dumps(found))
"""


TOOLKIT = """
cd /opt/pytorch/lib/python3.11/site-packages/workbench_toolkit
find . -name '*.py' | LC_ALL=C sort | xargs sha256sum | sha256sum
"""


def toolkit_of(image: str) -> str | None:
    """Return the checksum of an image's toolkit; None without the image."""
    look = ["docker", "image", "inspect", image]
    if subprocess.run(look, capture_output=True, check=False).returncode:
        return None
    return docker("run", "--rm", image, "sh", "-c", TOOLKIT)


@pytest.fixture(scope="module")
def images() -> Mapping[str, str]:
    """The default release, and each other that is here whole and with the same toolkit."""
    own = toolkit_of(CATALOG.releases[CATALOG.default].image)
    assert own, "the default release is not built"
    return {
        name: release.image
        for name, release in CATALOG.releases.items()
        if {toolkit_of(release.image + flavor) for flavor in FLAVORS} == {own}
    }


@pytest.fixture(scope="module")
def made(images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A folder of files per release, each made by its flavor ``train``."""
    folders = {}
    for name, image in images.items():
        folder = folders[name] = tmp_path_factory.mktemp("made") / name
        folder.mkdir()
        folder.chmod(0o777)
        mount = f"--volume={folder}:/workspace"
        docker("run", "--rm", f"--user={UID}:{UID}", mount, f"{image}-train", "bash", "-c", MAKE)
    return folders


@pytest.mark.parametrize("name", CATALOG.releases)
@pytest.mark.parametrize("flavor", FLAVORS, ids=["lab", "train", "serve"])
def test_files_of_every_release_are_read(
    images: Mapping[str, str], made: Mapping[str, Path], name: str, flavor: str
) -> None:
    if name not in images and name != CATALOG.default:
        pytest.skip(f"{name} is not built with this toolkit: WORKBENCH_RELEASES says what is built")
    mounts = [f"--volume={folder}:/made/{release}:ro" for release, folder in made.items()]
    places = [f"/made/{release}" for release in made]
    image = images[name] + flavor
    said = docker(
        "run", "--rm", f"--user={UID}:{UID}", *mounts, image, "python", "-c", READ, *places
    )
    found: dict[str, dict[str, Any]] = json.loads(said)
    assert set(found) == set(images)
    packs = [each.pop(kind) for each in found.values() for kind in ("h5", "lmdb")]
    for maker, differences in found.items():
        assert max(differences.values()) < TOLERANCE, (maker, differences)
    if flavor == "-serve":
        assert all(
            "not in this image: use the flavor train or lab for packs" in pack for pack in packs
        )
    else:
        first, *others = packs
        assert first[0] == 50
        assert first[2].endswith(".raw")
        assert all(other == first for other in others), "a pack reads differently"
