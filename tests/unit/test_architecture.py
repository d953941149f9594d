"""The house as the imports draw it: they point downward only, and the three houses never meet."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.paths import ROOT

FLOORS = [
    {"model"},
    {"policy"},
    {"serial_executor"},
    {"ledger", "clock", "gpus", "containers", "settings", "catalog"},
    {"controller", "sampling", "audit"},
    {"idle", "commands"},
    {"hub", "agent", "broker", "cli"},
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
        {"lease_lifecycle", "queue", "end_watcher"},
        {"reconcile", "health", "admin_actions"},
        {"controller"},
    ],
    "hub": [
        {"approval", "hub_database", "identity", "metrics", "single_instance", "single_flight", "unavailable"},
        {"refusal", "workbench"},
        {"views"},
        {"servers"},
        {"handlers"},
        {"configure"},
        {"first_admin"},
    ],
}


def number(floors: list[set[str]]) -> dict[str, int]:
    return {room: number for number, rooms in enumerate(floors) for room in rooms}


FLOOR = number(FLOORS)
FLOOR_WITHIN = {house: number(floors) for house, floors in FLOORS_WITHIN.items()}


def python_files(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).rglob("*.py") if "node_modules" not in p.parts)


def imported_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", python_files("spawner"), ids=str)
def test_imports_point_downward(file: Path) -> None:
    room, *within = file.relative_to(ROOT / "spawner").with_suffix("").parts
    for module in imported_modules(file):
        house, *names = module.split(".")
        if house != "spawner":
            continue
        if names[0] != room:
            assert FLOOR[names[0]] < FLOOR[room], f"{file.relative_to(ROOT)} imports {module}"
        elif room in FLOORS_WITHIN and within[0] != "__init__" and names[1] != within[0]:
            floor = FLOOR_WITHIN[room]
            assert floor[names[1]] < floor[within[0]], f"{file.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize(
    "file", [*python_files("spawner/policy"), ROOT / "spawner/model.py"], ids=str
)
def test_model_and_policy_do_no_io(file: Path) -> None:
    allowed = {
        "__future__", "bisect", "collections", "dataclasses", "enum", "heapq", "itertools", "math",
        "operator", "re", "spawner", "typing", "unicodedata"
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
def test_the_houses_never_import_each_other(folder: str, stranger: str) -> None:
    for file in python_files(folder):
        for module in imported_modules(file):
            assert module.split(".")[0] != stranger, f"{file.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize(
    ("folder", "floors"),
    [("", FLOOR), *((house, floors) for house, floors in FLOOR_WITHIN.items())],
)
def test_every_room_has_a_floor(folder: str, floors: dict[str, int]) -> None:
    rooms = {
        p.stem
        for p in (ROOT / "spawner" / folder).iterdir()
        if not p.name.startswith("__") and (p.suffix == ".py" or (p / "__init__.py").exists())
    }
    assert rooms == set(floors)
