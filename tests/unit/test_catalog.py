"""The catalog is read strictly, and every lock agrees with it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from spawner.catalog import Catalog, load_catalog
from spawner.model import SettingsError
from testing.factories import make_release
from testing.paths import ROOT

GOOD = """
default = "v2.7"
[releases."v2.7"]
image = "pytorch-cuda:v2.7"
title = "PyTorch 2.7"
torch = "2.7.1"
cuda = "12.6"
python = "3.11"
cudnn = "9.5.1"
nccl = "2.26.2"
driver = "525.60.13"
packages_before = "2025-12-01"
architectures = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
constraints = ["torchaudio==2.7.1"]
without = []
"""


def load(tmp_path: Path, text: str) -> Catalog:
    path = tmp_path / "catalog.toml"
    path.write_text(text, encoding="utf-8")
    return load_catalog(path)


def test_release_is_read_whole(tmp_path: Path) -> None:
    catalog = load(tmp_path, GOOD)
    assert catalog == Catalog("v2.7", {"v2.7": make_release()})


def test_catalog_cannot_be_changed(tmp_path: Path) -> None:
    catalog = load(tmp_path, GOOD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        catalog.default = "v3"  # type: ignore[misc]
    with pytest.raises(TypeError):
        catalog.releases["v3"] = catalog.releases["v2.7"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('default = "v2.7"', "", "lacks default"),
        ('default = "v2.7"', 'default = "v9"', "not one of its releases: v2.7"),
        ('default = "v2.7"', "default = 2.7", "not one of its releases"),
        ('default = "v2.7"', 'default = "v2.7"\nextra = 1', "unknown keys: extra"),
        ('[releases."v2.7"]', '[releases."2.7"]', "not a release name"),
        ('[releases."v2.7"]', '[releases."v2/../7"]', "not a release name"),
        ('torch = "2.7.1"', "", "lacks torch"),
        ('torch = "2.7.1"', "torch = 2.7", "torch = 2.7"),
        ('torch = "2.7.1"', 'torch = ">=2"', "torch = '>=2'"),
        ('torch = "2.7.1"', 'torch = "2.7.1"\ntroch = "2"', "unknown keys: troch"),
        ('cuda = "12.6"', 'cuda = "cpu"', "cuda = 'cpu'"),
        ('python = "3.11"', 'python = ""', "python = ''"),
        ('title = "PyTorch 2.7"', 'title = "  "', "title = '  '"),
        ('image = "pytorch-cuda:v2.7"', 'image = "pytorch-cuda"', "image = 'pytorch-cuda'"),
        ('image = "pytorch-cuda:v2.7"', 'image = "--privileged:x"', "image = '--privileged:x'"),
        ('driver = "525.60.13"', 'driver = "new"', "driver = 'new'"),
        ('"2025-12-01"', '"today"', "packages_before = 'today'"),
        ('cudnn = "9.5.1"', "cudnn = 9", "cudnn = 9"),
        ('"sm_50", ', '"sm_5.0", ', "architectures = ['sm_5.0'"),
        ('"sm_50", ', "50, ", "architectures = [50"),
        ('architectures = ["', 'architectures = "["  #', "architectures = '['"),
        ("torchaudio==2.7.1", "torchaudio @ x", "constraints = ['torchaudio @ x'"),
        ('["torchaudio==2.7.1"]', "[]", "constraints = []"),
        ("without = []", "without = ''", "without = ''"),
        ("without = []", "without = ['torch audio']", "without = ['torch audio']"),
        ('default = "v2.7"', "default = ", "not valid TOML"),
    ],
)
def test_bad_catalog_is_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in GOOD
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    message = str(caught.value)
    assert sentence in message
    assert str(tmp_path / "catalog.toml") in message
    assert "\n" not in message


def test_no_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="at least one"):
        load(tmp_path, 'default = "v2.7"\n[releases]\n')
    with pytest.raises(SettingsError, match="must be a table"):
        load(tmp_path, 'default = "v2.7"\n[releases]\n"v2.7" = 1\n')


def test_two_releases_with_one_image_are_refused(tmp_path: Path) -> None:
    second = GOOD.partition("[releases")[2].replace("v2.7", "v2.8", 1)
    with pytest.raises(SettingsError, match="same image"):
        load(tmp_path, f"{GOOD}[releases{second}")


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_catalog(tmp_path / "absent.toml")


def test_names_choose_what_is_offered() -> None:
    old, new, newest = (make_release(name=name) for name in ("v2.7", "v3", "v4"))
    catalog = Catalog("v2.7", {"v2.7": old, "v3": new, "v4": newest})
    assert catalog.choose(()) == Catalog("v2.7", {"v2.7": old})
    assert catalog.choose(("v4", "v2.7")) == Catalog("v2.7", {"v4": newest, "v2.7": old})
    assert catalog.choose(("v4", "v3")).default == "v4"
    with pytest.raises(SettingsError, match=r"WORKBENCH_RELEASES names 'v5'.* v2\.7, v3, v4\."):
        catalog.choose(("v3", "v5"))


def test_project_catalog_and_locks_agree() -> None:
    catalog = load_catalog(ROOT / "images" / "catalog.toml")
    for release in catalog.releases.values():
        folder = ROOT / "images" / "pytorch-cuda" / release.name
        torch_lock = (folder / "torch.lock").read_text(encoding="utf-8")
        assert re.search(rf"^torch=={re.escape(release.torch)} ", torch_lock, re.MULTILINE)
        runtime = re.search(
            r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+\.\d+)\.", torch_lock, re.MULTILINE
        )
        assert runtime is not None
        assert runtime[1] == release.cuda
        for name, version in (("cudnn", release.cudnn), ("nccl", release.nccl)):
            assert re.search(
                rf"^nvidia-{name}-cu\d+=={re.escape(version)}\b", torch_lock, re.MULTILINE
            )


MIN_DRIVERS = {"12": "525.60.13", "13": "580"}
"""By the major version of CUDA: NVIDIA's CUDA Compatibility, "Minor Version Compatibility"."""


def test_every_release_names_the_least_driver_of_its_cuda() -> None:
    catalog = load_catalog(ROOT / "images" / "catalog.toml")
    for release in catalog.releases.values():
        assert release.driver == MIN_DRIVERS[release.cuda.partition(".")[0]]


def locks() -> list[Path]:
    return sorted((ROOT / "images").rglob("*.lock"))


@pytest.mark.parametrize("lock", locks(), ids=lambda lock: str(lock.relative_to(ROOT)))
def test_lock_has_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if re.match(r"[a-zA-Z0-9]", line)]
    assert pins
    assert all(re.fullmatch(r"[a-z0-9-]+(\[.+\])?==\S+ \\", line) for line in pins)
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "index-url" not in text
    assert "find-links" not in text
