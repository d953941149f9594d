"""Architecture: imports point downward, packages keep apart, and a test lies where its module lies."""

import ast
from itertools import combinations
from pathlib import Path

import pytest

from testing.imports import imported_modules, number, python_files
from testing.paths import ROOT

FLOORS = [
    {"model", "version"},
    {"policy"},
    {"serial_executor", "setting_parsers"},
    {
        "ledger",
        "clock",
        "gpus",
        "containers",
        "settings",
        "catalog",
        "guard_state",
        "network_probe",
    },
    {"bounds_file", "controller", "sampling", "audit"},
    {"idle", "commands"},
    {"hub", "agent", "broker", "cli", "guard", "tls"},
]
FLOORS_WITHIN = {
    "ledger": [
        {"tables", "database"},
        {"trail"},
        {"rows", "migrations"},
        {"accounts", "quarantines", "drains", "queue_moves", "accounting"},
        {"quotas"},
        {"ledger"},
    ],
    "controller": [
        {"lease_lifecycle", "queue"},
        {"end_watcher"},
        {"reconcile", "health", "admin_actions", "user_homes"},
        {"controller"},
    ],
    "hub": [
        {
            "admins",
            "attempts",
            "client_address",
            "confirmation",
            "hub_database",
            "identity",
            "metrics",
            "openid",
            "page_headers",
            "password_hashing",
            "server_notices",
            "sessions",
            "single_instance",
            "single_flight",
            "site_policy",
            "start_rate",
            "launch_slots",
            "unavailable",
        },
        {"disk", "schema", "site"},
        {"approval", "refusal", "workbench"},
        {"failed_log_ins"},
        {"views"},
        {"servers"},
        {"handlers"},
        {"configure"},
        {"config_check", "first_admin"},
    ],
}


FLOOR = number(FLOORS)
FLOOR_WITHIN = {package: number(floors) for package, floors in FLOORS_WITHIN.items()}


@pytest.mark.parametrize("file", python_files("spawner"), ids=str)
def test_imports_point_downward(file: Path) -> None:
    module_name, *within = file.relative_to(ROOT / "spawner").with_suffix("").parts
    for module in imported_modules(file):
        package, *names = module.split(".")
        if package != "spawner":
            continue
        if names[0] != module_name:
            assert FLOOR[names[0]] < FLOOR[module_name], (
                f"{file.relative_to(ROOT)} imports {module}"
            )
        elif module_name in FLOORS_WITHIN and within[0] != "__init__" and names[1] != within[0]:
            floor = FLOOR_WITHIN[module_name]
            assert floor[names[1]] < floor[within[0]], f"{file.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize(
    "file", [*python_files("spawner/policy"), ROOT / "spawner/model.py"], ids=str
)
def test_model_and_policy_do_no_io(file: Path) -> None:
    allowed = {
        "__future__", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq", "ipaddress",
        "itertools", "json", "math", "operator", "re", "spawner", "typing", "unicodedata"
    }  # fmt: skip
    assert {module.split(".")[0] for module in imported_modules(file)} <= allowed


@pytest.mark.parametrize(
    ("folder", "stranger"),
    [
        ("spawner", "gpu_panel"),
        ("extensions", "spawner"),
        ("images", "spawner"),
        ("images", "gpu_panel"),
    ],
)
def test_packages_never_import_each_other(folder: str, stranger: str) -> None:
    for file in python_files(folder):
        for module in imported_modules(file):
            assert module.split(".")[0] != stranger, f"{file.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize(
    ("folder", "floors"),
    [("", FLOOR), *((package, floors) for package, floors in FLOOR_WITHIN.items())],
)
def test_every_module_has_a_floor(folder: str, floors: dict[str, int]) -> None:
    modules = {
        p.stem
        for p in (ROOT / "spawner" / folder).iterdir()
        if not p.name.startswith("__") and (p.suffix == ".py" or (p / "__init__.py").exists())
    }
    assert modules == set(floors)


def copied_files(dockerfile: Path) -> set[Path]:
    """Return the files of ``spawner`` that the image's ``COPY`` lines name."""
    sources = {
        ROOT / source
        for line in dockerfile.read_text().splitlines()
        if line.startswith("COPY spawner")
        for source in line.split()[1:-1]
    }
    return {
        file
        for source in sources
        for file in ([source] if source.is_file() else source.rglob("*.py"))
    }


def file_of(module: str) -> Path:
    """Return the file of a module, or of the module that holds the imported name."""
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py", path.parent.with_suffix(".py")):
        if file.is_file():
            return file
    return path.parent / "__init__.py"


@pytest.mark.parametrize("image", ["agent", "guard", "hub"])
def test_an_image_holds_what_its_modules_import(image: str) -> None:
    copied = copied_files(ROOT / "images" / image / "Dockerfile")
    imported = {
        file_of(module)
        for file in copied
        for module in imported_modules(file)
        if module.split(".")[0] == "spawner"
    }
    assert copied
    assert {str(file.relative_to(ROOT)) for file in imported - copied} == set()


# --- names

PACKAGES = (
    "spawner",
    "images/toolkit/workbench_toolkit",
    "extensions/gpu-panel/gpu_panel",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_class_name_is_defined_once(package: str) -> None:
    defined: dict[str, list[str]] = {}
    for file in python_files(package):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                defined.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in defined.items() if len(files) > 1} == {}


def is_one_letter_apart(one: str, other: str) -> bool:
    """Return whether one letter more, or another letter, makes ``other`` of ``one``."""
    short, long = sorted((one, other), key=len)
    if len(short) == len(long):
        return sum(a != b for a, b in zip(short, long, strict=True)) == 1
    return any(short == long[:i] + long[i + 1 :] for i in range(len(long)))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("order", "orders", True),
        ("order", "older", True),
        ("order", "border", True),
        ("order", "order", False),
        ("use", "usage", False),
        ("order", "redor", False),
    ],
)
def test_one_letter_apart(one: str, other: str, expected: bool) -> None:
    assert is_one_letter_apart(one, other) is expected


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_modules_of_a_folder_differ_by_one_letter(package: str) -> None:
    folders: dict[Path, set[str]] = {}
    for file in python_files(package):
        folders.setdefault(file.parent, set()).add(file.stem)
        folders.setdefault(file.parent.parent, set()).add(file.parent.name)
    alike = [
        (str(folder.relative_to(ROOT)), *pair)
        for folder, names in folders.items()
        for pair in combinations(sorted(names), 2)
        if is_one_letter_apart(*pair)
    ]
    assert alike == []


# --- tests, testing, benchmarks


@pytest.mark.parametrize(
    ("folder", "strangers"),
    [
        ("benchmarks", {"tests"}),
        ("testing", {"tests", "benchmarks"}),
        ("simulation", {"tests", "testing", "benchmarks"}),
        ("spawner", {"tests", "testing", "benchmarks", "simulation"}),
    ],
)
def test_no_product_or_benchmark_imports_tests(folder: str, strangers: set[str]) -> None:
    for file in python_files(folder):
        for module in imported_modules(file):
            assert module.split(".")[0] not in strangers, f"{file.relative_to(ROOT)}: {module}"


def test_helpers_never_come_from_test_modules() -> None:
    for file in python_files("tests"):
        for module in imported_modules(file):
            root, *names = module.split(".")
            is_test = root == "tests" and any(name.startswith("test_") for name in names[:-1])
            assert not is_test, f"{file.relative_to(ROOT)} imports {module}"


# tests about the whole repository
WHOLE = {
    "test_architecture",
    "test_check_sentences",
    "test_docs",
    "test_docs_commands",
    "test_part_architecture",
    "test_pre_commit",
}
MIRRORED = {"simulation", "testing"}


def modules_of(folder: Path) -> set[str]:
    """Return the names of Python and C modules and of packages in ``folder``."""
    return {
        path.stem.strip("_").replace("-", "_")
        for path in folder.iterdir()
        if path.suffix in (".py", ".c") or (path / "__init__.py").exists()
    }


def unit_tests() -> list[Path]:
    return [file for file in python_files("tests/unit") if file.name.startswith("test_")]


@pytest.mark.parametrize("file", unit_tests(), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_unit_test_lies_where_its_module_lies(file: Path) -> None:
    """``tests/unit/policy/test_queue.py`` or ``test_queue_MORE.py`` tests ``spawner/policy/queue.py``."""
    parts = file.relative_to(ROOT / "tests/unit").parent.parts
    mirrored = ROOT.joinpath(*parts) if parts[:1] and parts[0] in MIRRORED else None
    folder = mirrored or ROOT.joinpath("spawner", *parts)
    assert folder.is_dir(), f"there is no {folder.relative_to(ROOT)}"
    name = file.stem.removeprefix("test_")
    found = [m for m in modules_of(folder) if name == m or name.startswith(f"{m}_")]
    assert found or file.stem in WHOLE, f"{folder.relative_to(ROOT)} has no module {name}"
