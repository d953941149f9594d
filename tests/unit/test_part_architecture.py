"""Toolkit and panel architecture: imports inside both packages point to lower layers only."""

from pathlib import Path

import pytest

from testing.imports import imported_modules, number, python_files
from testing.paths import ROOT

Layers = list[set[str]]

TOOLKIT = ROOT / "images" / "toolkit" / "workbench_toolkit"
PANEL = ROOT / "extensions" / "gpu-panel" / "gpu_panel"

LAYERS: dict[Path, Layers] = {
    TOOLKIT: [
        {
            "errors",
            "exit_codes",
            "cores",
            "distributed",
            "authentication",
            "shutdown_hook",
            "start_marker",
            "image",
        },
        {"checkpointing", "pack", "doctor", "env"},
        {"train"},
        {"data", "export", "verify"},
        {"bench_data", "serve"},
        {"cli"},
    ],
    TOOLKIT / "bench_data": [{"measure"}, {"recommendation"}, {"command"}],
    TOOLKIT / "checkpointing": [{"agreement", "checkpoint"}],
    TOOLKIT / "doctor": [
        {"compatibility"},
        {"gpus", "release"},
        {"report"},
        {"checks"},
        {"command"},
    ],
    TOOLKIT / "env": [{"environments"}, {"command"}],
    TOOLKIT / "export": [
        {"contract", "torchscript"},
        {"inputs", "source", "convert"},
        {"compare"},
        {"pipeline"},
        {"command"},
    ],
    TOOLKIT / "pack": [{"source"}, {"formats"}, {"h5_file", "lmdb_file", "packing"}, {"command"}],
    TOOLKIT / "serve": [
        {"refusal", "engine"},
        {"worker", "metrics", "schema", "npz"},
        {"batcher"},
        {"service"},
        {"app"},
        {"command"},
        {"health"},
    ],
    TOOLKIT / "train": [
        {"supervisor", "rendezvous", "trainer"},
        {"agent", "command", "import_hook"},
    ],
    TOOLKIT / "verify": [{"files"}, {"compare"}, {"home"}, {"command"}],
    PANEL: [
        {"message", "notices"},
        {"hub", "nvml", "server_reading"},
        {"lease", "memory_watch"},
        {"activity", "sampler"},
        {"stream_handler", "lease_handler"},
    ],
}


def is_module(path: Path) -> bool:
    return not path.name.startswith("__") and (
        path.suffix == ".py" or (path / "__init__.py").exists()
    )


@pytest.mark.parametrize("package", LAYERS, ids=lambda package: package.name)
def test_every_module_has_a_layer(package: Path) -> None:
    assert {path.stem for path in package.iterdir() if is_module(path)} == set(
        number(LAYERS[package])
    )


@pytest.mark.parametrize("package", LAYERS, ids=lambda package: package.name)
def test_imports_point_to_lower_layers(package: Path) -> None:
    root = TOOLKIT if package.is_relative_to(TOOLKIT) else PANEL
    prefix = ".".join((root.name, *package.relative_to(root).parts, ""))
    layer = number(LAYERS[package])
    for file in python_files(str(package.relative_to(ROOT))):
        module = file.relative_to(package).with_suffix("").parts[0]
        if module == "__init__":
            continue
        for name in imported_modules(file):
            imported = name.removeprefix(prefix).split(".")[0]
            if name.startswith(prefix) and imported != module:
                assert layer[imported] < layer[module], f"{file.relative_to(ROOT)} imports {name}"
