"""Image description: writes an image's manifest, its bill of materials (CycloneDX) and its file list at build time.

The manifest comes from catalog and locks, never from the installed packages: ``wb verify`` compares the two.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(IMAGES / "toolkit"))

from workbench_toolkit.verify.files import LIST, hash_files, write_list  # noqa: E402 - see above

PREFIX = Path("/opt/pytorch")
STATED = ("python", "torch", "cuda", "cudnn", "nccl", "driver", "architectures")


def build_manifest(flavor: str, wheels: Sequence[Path]) -> dict[str, Any]:
    """Return the manifest of ``flavor`` with this repository's own ``wheels``."""
    name = os.environ["RELEASE"]
    release = tomllib.loads((IMAGES / "catalog.toml").read_text(encoding="utf-8"))["releases"][name]
    locks = sorted((PREFIX / "lock" / name).glob("*.lock"))
    text = "".join(lock.read_text(encoding="utf-8") for lock in locks)
    packages = dict(re.findall(r"^([a-z0-9-]+)==(\S+) ", text, re.MULTILINE))
    for wheel in wheels:
        project, version, *_ = wheel.name.split("-")
        packages[project.replace("_", "-")] = version
    return {
        "release": name,
        "flavor": flavor,
        "revision": os.environ.get("REVISION") or None,
        "lock_sha256": hashlib.sha256(text.encode()).hexdigest(),
        **{key: release[key] for key in STATED},
        "packages": dict(sorted(packages.items())),
    }


def list_parts() -> dict[str, Any]:
    """Return the bill of materials of the installed packages, Python's and Debian's."""
    command = [f"{sys.prefix}/bin/cyclonedx-py", "environment", "--output-reproducible"]
    command.append(f"{PREFIX}/bin/python")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603
    parts: dict[str, Any] = json.loads(done.stdout)
    parts["components"] += list_debian_packages()
    return parts


def list_debian_packages() -> Iterator[dict[str, str]]:
    """Yield Debian's packages as components."""
    query = ["/usr/bin/dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\\n"]
    done = subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    for line in sorted(done.stdout.splitlines()):
        name, version, architecture = line.split()
        purl = f"pkg:deb/debian/{name}@{version.replace('+', '%2B').replace(':', '%3A')}?arch={architecture}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
        }


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a document as JSON."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(PREFIX / "manifest.json", build_manifest(sys.argv[1], [Path(w) for w in sys.argv[2:]]))
    write(PREFIX / "sbom.cdx.json", list_parts())
    hashes = hash_files(PREFIX, lambda *_: None)
    (PREFIX / LIST).write_text(write_list(hashes), encoding="utf-8")
