"""The build step knows what is out of date, says what it lacks, and leaves nothing half-made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.images.conftest import CATALOG, RELEASES, REPOSITORY, bash, docker, inspect

HUB = 'source_hash "" images/hub spawner'


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the build step reads."""
    for name in ("images", "scripts", "spawner"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignore)
    for name in (".dockerignore", ".env.example"):
        shutil.copy2(REPOSITORY / name, tmp_path)
    return tmp_path


def hash_of(repository: Path) -> str:
    done = bash(HUB, repository)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 65
    return done.stdout


def test_names_come_from_the_catalog() -> None:
    rows = bash("catalog_images").stdout.splitlines()
    assert rows == [f"{release.name} {release.image}" for release in CATALOG.releases.values()]


@pytest.mark.parametrize(
    ("chosen", "names"),
    [("", [CATALOG.default]), ("v2.15", ["v2.15"]), (" v2.15  v2.7 ", ["v2.15", "v2.7"])],
)
def test_setting_chooses_the_releases(chosen: str, names: list[str]) -> None:
    rows = bash("chosen_images", WORKBENCH_RELEASES=chosen).stdout.splitlines()
    assert rows == [f"{name} {CATALOG.releases[name].image}" for name in names]


def test_unknown_release_is_one_sentence_before_anything_is_built() -> None:
    done = bash("build_images", WORKBENCH_RELEASES="v2.7 v2.1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('error: WORKBENCH_RELEASES names "v2.1"')
    assert done.stderr.count("\n") == 1


def test_hash_follows_content_names_and_modes(copy: Path) -> None:
    seen = [hash_of(copy)]
    file = copy / "spawner" / "model.py"
    file.write_text(file.read_text(encoding="utf-8") + "\n# more\n", encoding="utf-8")
    seen.append(hash_of(copy))
    file.rename(copy / "spawner" / "nouns.py")
    seen.append(hash_of(copy))
    (copy / "spawner" / "nouns.py").chmod(0o755)
    seen.append(hash_of(copy))
    assert len(set(seen)) == 4


def test_hash_ignores_what_the_build_ignores(copy: Path) -> None:
    before = hash_of(copy)
    cache = copy / "spawner" / "hub" / "__pycache__"
    cache.mkdir(parents=True)
    (cache / "x.pyc").write_bytes(b"x")
    (copy / "spawner" / "model.py").touch()
    assert hash_of(copy) == before


def test_images_that_are_up_to_date_are_left_alone() -> None:
    images = [f"{release.image}{end}" for release in RELEASES for end in ("", "-train", "-serve")]
    images += ["gpu-workbench-hub:local", "gpu-workbench-agent:local"]
    assert bash("ensure_base_image; build_images").returncode == 0
    before = [inspect(image)["Id"] for image in images]
    again = bash("ensure_base_image; build_images")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert [inspect(image)["Id"] for image in images] == before


def test_failing_build_is_shown_and_leaves_no_image(copy: Path) -> None:
    dockerfile = "FROM debian:bookworm-slim AS base\nFROM base AS hub\nRUN echo why >&2; exit 3\n"
    (copy / "images" / "hub" / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    done = bash('build_image workbench-test-broken:x hub 1 "" spawner', copy)
    assert done.returncode == 1
    assert "hub: step 1 of 1" in done.stdout
    assert "why" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: workbench-test-broken:x could not be")
    assert docker("image", "ls", "--quiet", "workbench-test-broken") == ""


def test_an_image_that_is_replaced_goes_unless_another_user_named_it(copy: Path) -> None:
    image, kept = "workbench-test-replaced:x", "workbench-test-replaced:kept"
    dockerfile = copy / "images" / "hub" / "Dockerfile"

    def build(word: str) -> str:
        dockerfile.write_text(
            f"FROM debian:bookworm-slim AS hub\nLABEL said={word}\n", encoding="utf-8"
        )
        done = bash(f'build_image {image} hub 1 "" spawner', copy)
        assert done.returncode == 0, done.stderr
        return str(inspect(image)["Id"])

    try:
        first = build("one")
        second = build("two")
        assert first not in docker("image", "ls", "--all", "--quiet", "--no-trunc")
        docker("image", "tag", image, kept)
        build("three")
        assert inspect(kept)["Id"] == second
    finally:
        docker("image", "rm", "--force", image, kept)


def test_short_disk_is_one_sentence() -> None:
    done = bash("require_disk 1000000")
    assert (done.returncode, done.stdout) == (1, "")
    assert "GB free and the images need 1000000 GB" in done.stderr
    assert done.stderr.count("\n") == 1


def test_missing_ca_bundle_is_one_sentence(copy: Path) -> None:
    script = 'build_image workbench-test-broken:x hub 1 "" spawner'
    done = bash(script, copy, WORKBENCH_CA_BUNDLE="/absent")
    assert done.returncode == 2
    assert done.stderr.startswith('error: WORKBENCH_CA_BUNDLE="/absent" cannot be read')
    assert done.stderr.count("\n") == 1
