"""Subcommand ``wb verify``: prints the comparison with the manifest as text or JSON.

Exit code 0: the image is as declared and its packages are those that Python imports; 1: something differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench_toolkit.doctor.release import MANIFEST
from workbench_toolkit.doctor.report import build_text
from workbench_toolkit.errors import ToolError
from workbench_toolkit.image import LIBRARY, PREFIX
from workbench_toolkit.verify.compare import compare_all, compare_files, list_packages
from workbench_toolkit.verify.files import LIST, hash_files, read_list
from workbench_toolkit.verify.home import check_home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--files",
        action="store_true",
        help="also compare the hash of every file (ten seconds or more)",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        default=MANIFEST,
        help="the image's manifest (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print all comparisons and return the exit code."""
    manifest = _read(arguments.manifest)
    packages = list_packages(PREFIX / LIBRARY)
    checks = [*compare_all(manifest, packages), *check_home(manifest, Path.home(), sys.path)]
    if arguments.files:
        checks.append(compare_files(_read_files(), hash_files(PREFIX, _show_progress)))
    agrees = all(check.state != "fails" for check in checks)
    if arguments.json:
        report = {"agrees": agrees, "checks": [asdict(check) for check in checks]}
        sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(build_text(checks, ()) + "\n")
    return 0 if agrees else 1


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ToolError(
            f"There is no manifest {path}: use one of the workbench's images."
        ) from None
    except (OSError, ValueError) as error:
        raise ToolError(
            f"The manifest {path} cannot be read ({error}): pull the image again."
        ) from error
    if not isinstance(document, dict):
        raise ToolError(f"The manifest {path} is not a JSON object: pull the image again.")
    return document


def _read_files() -> dict[str, str]:
    try:
        return read_list(Path(PREFIX, LIST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done:,} of {total:,} files" + ("\n" if done == total else ""))
        sys.stderr.flush()
