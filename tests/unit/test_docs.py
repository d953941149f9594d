"""Docs that cannot go stale: settings, links, files, pages, fields and versions are documented as they are."""

import re
import tomllib
from dataclasses import fields

import pytest

from spawner.audit.rules import Rule
from spawner.hub.handlers import scopes
from spawner.policy.quota_rows import QuotaRow
from spawner.settings import Settings, read_profile, variable_name
from testing.docs import PAGES, Page, code_words, page
from testing.paths import ROOT

README_BYTES = 6000
_PROFILES, _, _SETTINGS = page("docs/settings.md").text.partition("## The workbench")
_ROW = re.compile(r"^\| `(WORKBENCH_\w+)` \|([^|]*)\| (.*) \|$", re.MULTILINE)
ROWS = {match[1]: (match[2].strip().strip("`"), match[3]) for match in _ROW.finditer(_SETTINGS)}
PROFILE_ROWS = {
    match[1]: (match[2].strip().strip("`"), match[3].strip("`"))
    for match in _ROW.finditer(_PROFILES)
}
EXAMPLE = dict(
    re.findall(r"^#(WORKBENCH_\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
)
SETTINGS = {variable_name(setting): setting for setting in fields(Settings)}
FOLDERS = {
    path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in (".git", "artifacts")
}
GUIDES = [read for read in PAGES if read.name != "CHANGELOG.md"]
"""The pages about the present; the changelog names settings and files of earlier versions too."""
every_page = pytest.mark.parametrize("read", PAGES, ids=lambda one: one.name)
every_guide = pytest.mark.parametrize("read", GUIDES, ids=lambda one: one.name)


def test_the_settings_page_and_the_example_list_exactly_the_settings() -> None:
    assert list(ROWS) == list(SETTINGS)
    assert list(EXAMPLE) == list(SETTINGS)


def test_the_table_of_profiles_has_the_defaults_of_both() -> None:
    students = read_profile("students")
    assert {name: (EXAMPLE[name], value) for name, value in students.items()} == PROFILE_ROWS
    assert list(PROFILE_ROWS) == [name for name in SETTINGS if name in students]
    assert read_profile("team") == {}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_described_with_its_default(name: str) -> None:
    setting = SETTINGS[name]
    shown, description = ROWS[name]
    assert description == setting.metadata["description"]
    assert shown == EXAMPLE[name]
    assert setting.metadata["parse"](shown) == setting.default


@every_guide
def test_no_guide_names_an_unknown_setting(read: Page) -> None:
    named = set(re.findall(r"WORKBENCH_[A-Z_]*[A-Z]\b(?!\*)", read.text)) - {"WORKBENCH_NAME"}
    assert {
        name for name in named if not any(known.startswith(name) for known in SETTINGS)
    } == set()


@every_page
def test_links_and_anchors_resolve(read: Page) -> None:
    for link in read.links:
        path, _, anchor = link.partition("#")
        target = (read.path.parent / path).resolve() if path else read.path
        assert target.exists(), f"{read.name} points at {link}"
        if anchor:
            assert anchor in Page(target).anchors, f"{read.name} points at {link}"


@every_guide
def test_files_and_folders_exist(read: Page) -> None:
    for code in read.inline_code:
        path = code.removesuffix("/")
        if re.fullmatch(r"examples/[\w.-]+", path):
            path = f"images/pytorch-cuda/{path}"
        if path.split("/")[0] in FOLDERS and re.fullmatch(r"[\w./*-]+", path) and "/" in path:
            assert list(ROOT.glob(path)), f"{read.name} names {code}"


def test_classes_and_methods_of_the_architecture_exist() -> None:
    source = "".join(path.read_text() for path in (ROOT / "spawner").rglob("*.py"))
    named = [
        match
        for code in page("docs/ARCHITECTURE.md").inline_code
        if (match := re.fullmatch(r"([A-Z][a-z]\w+)\.([a-z]\w+)", code))
    ]
    assert named
    for match in named:
        assert f"class {match[1]}" in source, match[0]
        assert f"def {match[2]}(" in source, match[0]


def test_every_page_of_docs_is_in_the_readme() -> None:
    linked = {link.partition("#")[0] for link in page("README.md").links}
    assert {read.name for read in PAGES if read.name.startswith("docs/")} <= linked


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


def test_every_page_of_the_hub_is_in_the_admins_guide() -> None:
    documented = {
        (title.strip("*"), path.strip("`"))
        for title, path, _ in page("docs/admin.md").rows("Pages")
    }
    bar = (ROOT / "spawner/hub/templates/page.html").read_text()
    linked = {
        (title, f"/hub/{path}") for path, title in re.findall(r'nav\("([\w-]+)", "(.+?)"\)', bar)
    }
    assert linked
    assert linked - documented == set()
    handlers = "".join(path.read_text() for path in (ROOT / "spawner/hub/handlers").glob("*.py"))
    served = {f"/hub/{path}" for path in re.findall(r'\(r?"/([a-z-]+)", \w+Page\b', handlers)}
    assert served
    assert served - {path for _, path in documented} == set()


def test_every_field_of_a_quota_is_documented() -> None:
    documented = [
        name for row in page("docs/quotas.md").rows("Fields") for name in code_words(row[0])
    ]
    assert set(documented) == {field.name for field in fields(QuotaRow)}


def test_every_scope_is_documented() -> None:
    text = page("docs/rest-api.md").text
    assert {scope for scope in scopes.DEFINITIONS if f"`{scope}`" not in text} == set()


def test_every_rule_of_the_audit_has_a_remedy() -> None:
    rows = page("docs/troubleshooting.md").rows("What `audit` finds")
    assert {row[0].strip("`") for row in rows} == {rule.value for rule in Rule}


def test_every_metric_of_the_hub_is_documented() -> None:
    source = (ROOT / "spawner/hub/metrics.py").read_text()
    made = set(re.findall(r'"(workbench_\w+)"', source))
    assert made
    text = page("docs/admin.md").text
    assert {name for name in made if name not in text} == set()


def test_the_changelog_begins_with_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## (\S+)", page("CHANGELOG.md").text, re.MULTILINE)
    assert newest
    assert newest[1] == project["version"]


def test_every_layer_of_the_tests_is_described() -> None:
    script = (ROOT / "scripts/test").read_text()
    layers = re.findall(r"^(?:all|disruptive)_layers=\((.*)\)$", script, re.M)
    described = re.search(r"^\| layer \|.*?\n\n", page("docs/contributing.md").text, re.M | re.S)
    assert described is not None
    assert re.findall(r"^\| `(\w+)` \|", described[0], re.M) == " ".join(layers).split()
