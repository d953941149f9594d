"""Subcommand ``wb doctor``: prints the checks and the GPUs' verdicts as text or JSON.

Exit code 0: all checks passed; 1: a check failed; 2: a check is unknown.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from workbench_toolkit.doctor.checks import check_all
from workbench_toolkit.doctor.compatibility import Verdict, judge
from workbench_toolkit.doctor.gpus import ProbedGpu, probe_gpus
from workbench_toolkit.doctor.release import MANIFEST, Manifest, read_manifest
from workbench_toolkit.doctor.report import JudgedGpu, build_json, build_text, get_exit_code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--manifest",
        type=Path,
        default=MANIFEST,
        help="the image's manifest (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report and return the exit code."""
    manifest = read_manifest(arguments.manifest)
    probe = probe_gpus()
    checks = list(check_all(manifest, probe))
    gpus = [JudgedGpu(gpu, _judge(manifest, gpu)) for gpu in probe.gpus]
    if arguments.json:
        report = json.dumps(build_json(checks, gpus), indent=2, ensure_ascii=False)
    else:
        report = build_text(checks, gpus)
    sys.stdout.write(report + "\n")
    return get_exit_code(checks, gpus)


def _judge(manifest: Manifest | None, gpu: ProbedGpu) -> dict[str, Verdict]:
    """Return the verdict on the release of ``manifest``; empty for an unknown release."""
    if manifest is None or manifest.stack is None:
        return {}
    return {manifest.release or "this image": judge(manifest.stack, gpu.facts)}
