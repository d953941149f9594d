"""Environments: makes, lists and removes the Python environments in a home.

The image's Python runs this without a user's packages, so that a damaged environment can be mended.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from workbench_toolkit.errors import ToolError
from workbench_toolkit.image import LIBRARY, PREFIX

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
RESERVED = frozenset({"python", "python2", "python3"})
"""Jupyter gives these kernels a meaning of their own."""

PIP = "#!{python}\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"


@dataclass(frozen=True)
class Environment:
    """A Python environment in the home; ``sees_image`` says whether the image's packages are behind its own."""

    name: str
    folder: Path
    sees_image: bool

    @property
    def python(self) -> Path:
        """Return its interpreter."""
        return self.folder / "bin" / "python3"


@dataclass(frozen=True)
class Home:
    """The folders of a home that this module changes."""

    environments: Path
    kernels: Path
    packages: Path

    @classmethod
    def load(cls) -> Home:
        """Return the folders of the current user's home."""
        home = Path.home()
        release = next((path.name for path in sorted((PREFIX / "lock").glob("*"))), "image")
        data = Path(os.environ.get("JUPYTER_DATA_DIR") or home / ".local/share/jupyter")
        workbench = home / ".workbench"
        return cls(workbench / "environments", data / "kernels", workbench / "packages" / release)

    def list_environments(self) -> Iterator[Environment]:
        """Yield all environments with a name, by name."""
        for config in sorted(self.environments.glob("*/pyvenv.cfg")):
            yield Environment(config.parent.name, config.parent, _sees_image(config))

    def get(self, name: str) -> Environment:
        """Return the environment ``name``; raises ToolError."""
        for environment in self.list_environments():
            if environment.name == name:
                return environment
        raise ToolError(f"There is no environment {name!r}: wb env list shows yours.")

    def create(self, name: str, *, release_free: bool) -> Environment:
        """Make the environment ``name`` and its kernel; without ``release_free`` it sees the image's packages.

        A ``release_free`` environment gets pip and a kernel from the package index. Raises ToolError.
        """
        if not NAME.fullmatch(name) or name in RESERVED:
            raise ToolError(
                f"{name[:50]!r} is not a name for an environment: use lower-case letters, digits, '.', '_' and '-', "
                "but not 'python3'."
            )
        if (self.kernels / name).exists():
            raise ToolError(
                f"There is a kernel {self.kernels / name} already: choose another name, or remove it."
            )
        environment = Environment(name, self.environments / name, not release_free)
        # Of two with one name, the second finds the folder.
        try:
            environment.folder.mkdir(parents=True)
        except FileExistsError:
            raise ToolError(
                f"There is an environment {name!r} already: choose another name, or remove it first."
            ) from None
        except OSError as error:
            raise ToolError(f"{environment.folder} cannot be made: {error.strerror}.") from error
        try:
            _fill(environment)
            self._write_kernel(environment)
        except BaseException:
            self.remove(environment)
            raise
        return environment

    def remove(self, environment: Environment) -> None:
        """Remove an environment and its kernel."""
        remove_folder(self.kernels / environment.name)
        remove_folder(environment.folder)

    def reset(self) -> None:
        """Remove the user's packages and make their environment again, without packages.

        Files in place of its parent folders, and parents without rights, get another name.
        """
        for folder in (self.packages.parent.parent, self.packages.parent):
            usable = folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)
            if os.path.lexists(folder) and not usable:
                _set_aside(folder)
        remove_folder(self.packages)
        make_environment(self.packages)

    def _write_kernel(self, environment: Environment) -> None:
        folder = self.kernels / environment.name
        kernel = {
            "argv": [
                str(environment.python),
                "-m",
                "ipykernel_launcher",
                "-f",
                "{connection_file}",
            ],
            "display_name": f"Python ({environment.name})",
            "language": "python",
            "env": {"PATH": f"{environment.folder}/bin:${{PATH}}"},
            "metadata": {"debugger": True},
        }
        try:
            folder.mkdir(parents=True)
            (folder / "kernel.json").write_text(
                json.dumps(kernel, indent=1) + "\n", encoding="utf-8"
            )
        except OSError as error:
            raise ToolError(f"The kernel {folder} cannot be written: {error.strerror}.") from error


def make_environment(folder: Path) -> None:
    """Make an environment that sees the image's packages; raises ToolError."""
    _run(["/usr/local/bin/make-environment", str(folder)])


def remove_folder(folder: Path) -> None:
    """Remove a folder, or a file or a link in its place; first it gets another name, so that a part never remains."""
    if not folder.exists() and not folder.is_symlink():
        return
    try:
        gone = folder.with_name(f".removed-{uuid4().hex}")
        folder.rename(gone)
        if gone.is_dir() and not gone.is_symlink():
            shutil.rmtree(gone)
        else:
            gone.unlink()
    except OSError as error:
        raise ToolError(f"{error.filename} cannot be removed: {error.strerror}.") from error


def _set_aside(folder: Path) -> None:
    try:
        folder.rename(folder.with_name(f"{folder.name}.{uuid4().hex[:8]}.old"))
    except OSError as error:
        raise ToolError(f"{folder} cannot be renamed: {error.strerror}.") from error


def list_requirements(folder: Path) -> list[str]:
    """Return the packages in the environment ``folder``, as pip reads them."""
    words = [sys.executable, "-I", "-m", "pip", "freeze", "--path", str(folder / LIBRARY)]
    return _run(words).splitlines()


def _sees_image(config: Path) -> bool:
    try:
        return (
            "include-system-site-packages = true" in config.read_text(encoding="utf-8").splitlines()
        )
    except (OSError, ValueError):
        return False


def _fill(environment: Environment) -> None:
    options = ["--system-site-packages"] if environment.sees_image else []
    words = ["/usr/bin/python3", "-I", "-m", "venv", "--without-pip"]
    _run([*words, *options, str(environment.folder)])
    if environment.sees_image:
        make_environment(environment.folder)
        for name in ("pip", "pip3"):
            script = environment.folder / "bin" / name
            script.write_text(PIP.format(python=environment.python), encoding="utf-8")
            script.chmod(0o755)
        return
    pip = [sys.executable, "-I", "-m", "pip", "--python", str(environment.python)]
    try:
        _run([*pip, "install", "--quiet", "pip", "ipykernel"])
    except ToolError as error:
        raise ToolError(
            f"pip and ipykernel cannot be installed from the package index: {error}"
        ) from error


def _run(words: Sequence[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - fixed programs
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{words[0]} ended with {done.returncode}"]
        raise ToolError(lines[-1].removeprefix("ERROR: "))
    return done.stdout
