"""Release manifest: reads the manifest that the image's build wrote.

A missing manifest or key is unknown; an unreadable manifest is an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench_toolkit.doctor.compatibility import Stack
from workbench_toolkit.errors import ToolError
from workbench_toolkit.image import PREFIX

MANIFEST = PREFIX / "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """The declared values of an image; None for a missing one."""

    release: str | None = None
    flavor: str | None = None
    torch: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    nccl: str | None = None
    driver: str | None = None
    architectures: tuple[str, ...] | None = None

    @property
    def stack(self) -> Stack | None:
        """The CUDA stack; None without a complete declaration."""
        if self.cuda is None or self.driver is None or not self.architectures:
            return None
        return Stack(self.cuda, self.driver, self.architectures)


def read_manifest(path: Path) -> Manifest | None:
    """Return the manifest at ``path``, None without a file; raises ToolError for a damaged file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ToolError(
            f"The manifest {path} cannot be read ({error}): pull the image again."
        ) from error
    if not isinstance(document, dict):
        raise ToolError(f"The manifest {path} is not a JSON object: pull the image again.")
    architectures = document.get("architectures")
    texts = ("release", "flavor", "torch", "cuda", "cudnn", "nccl", "driver")
    return Manifest(
        **{key: _text(document.get(key)) for key in texts},
        architectures=tuple(map(str, architectures)) if isinstance(architectures, list) else None,
    )


def _text(value: Any) -> str | None:  # noqa: ANN401
    return value if isinstance(value, str) else None
