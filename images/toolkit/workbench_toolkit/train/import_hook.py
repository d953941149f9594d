"""Import hook: changes transformers' ``Trainer`` when a script under ``wb train`` imports it.

``workbench_train.pth`` installs it in each Python process that has ``WB_TRAIN`` in its environment. It imports nothing
by itself, so a script without transformers costs nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

TRAINER = "transformers.trainer"


class _Finder(MetaPathFinder):
    """Finds the one module as all other finders do, and wraps its loader."""

    def _locate(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the wrapped module's specification, None for every other module."""
        del path, target
        if name != TRAINER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec

    find_spec = _locate


class _Loader(Loader):
    """Executes a module and changes its ``Trainer``."""

    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then let its trainings stop and resume."""
        self._inner.exec_module(module)
        from workbench_toolkit.train.trainer import let_stop_and_resume

        let_stop_and_resume(module)


def install() -> None:
    """Install the hook once."""
    if TRAINER not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
