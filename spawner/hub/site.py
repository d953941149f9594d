"""Site file: reads the admin's own JupyterHub configuration, `site.py` and then `config.d/*.py`, after `configure`.

A file sets any trait that is not the policy's. A refusal is one sentence that names the file, the trait and the
setting to use instead.
"""

from __future__ import annotations

import copy
import difflib
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from jupyterhub.app import JupyterHub
from traitlets import TraitError
from traitlets.config import Config, Configurable

from spawner.hub import site_policy
from spawner.model import SettingsError

SITE_FILE = "site.py"
MORE_FILES = "config.d"
SECRETS = "secrets"

Snapshot = dict[str, dict[str, Any]]


def list_site_files(folder: Path) -> list[Path]:
    """Return the files in the order in which they are read: `site.py`, then `config.d/*.py` by name."""
    more = sorted((folder / MORE_FILES).glob("[!.]*.py"))
    return [file for file in (folder / SITE_FILE, *more) if file.is_file()]


def read_site_files(c: Config, folder: Path) -> dict[str, Any]:
    """Run the site files of ``folder`` on the configuration ``c``; raises SettingsError.

    Return the traits that the files have set, by ``c.CLASS.TRAIT``. Services, roles, scopes, templates and admins of
    the workbench stay, also where a file assigns a new list.
    """
    ours = _take_snapshot(c)
    for file in list_site_files(folder):
        name = str(file.relative_to(folder))
        before = _take_snapshot(c)
        _run(file, name, c, folder)
        _require_classes(name, c)
        _load_authenticator(name, c)
        for section, trait in _changed_traits(before, c):
            _require_policy(name, section, trait, c[section][trait])
            _require_known_trait(name, section, trait)
        _merge(name, ours, c)
    return {
        f"c.{section}.{trait}": _subtract(c[section][trait], ours.get(section, {}).get(trait))
        for section, trait in _changed_traits(ours, c)
    }


def _run(file: Path, name: str, c: Config, folder: Path) -> None:
    def load_subconfig(path: str) -> None:
        _run(folder / path, path, c, folder)

    namespace = {
        "__file__": str(file),
        "__name__": "site_file",
        "c": c,
        "get_config": lambda: c,
        "load_subconfig": load_subconfig,
        "read_secret": _secret_reader(name, folder),
    }
    try:
        source = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{name} cannot be read: {error.strerror}.") from error
    try:
        # the admin's own file, with the admin's own rights
        exec(compile(source, str(file), "exec"), namespace)  # noqa: S102
    except SettingsError:
        raise
    except SyntaxError as error:
        where = name if error.filename == str(file) else str(error.filename)
        raise SettingsError(f"{where}, line {error.lineno}: {error.msg}.") from error
    except (Exception, SystemExit) as error:  # any error of the admin's code is one sentence
        line = _line_of(error.__traceback__, str(file))
        text = str(error).rstrip(".") or "no message"
        raise SettingsError(f"{name}, line {line}: {type(error).__name__}: {text}.") from error


def _line_of(where: TracebackType | None, file: str) -> int | str:
    lines = [frame.lineno for frame in traceback.extract_tb(where) if frame.filename == file]
    return lines[-1] if lines and lines[-1] is not None else "unknown"


def _secret_reader(name: str, folder: Path) -> Callable[[str], str]:
    def read_secret(secret: str) -> str:
        """Return the text of the file ``secrets/SECRET`` next to `site.py`, without white space around it."""
        try:
            text = (folder / SECRETS / secret).read_text().strip()
        except (OSError, ValueError):
            text = ""
        if not text:
            raise SettingsError(
                f"{name} needs the secret {secret}: write it into the file {SECRETS}/{secret} next to {SITE_FILE}."
            )
        return text

    return read_secret


def _take_snapshot(c: Config) -> Snapshot:
    """Return the traits that are set now; a list or dict is copied, so that a change inside it shows."""
    return {
        section: {trait: copy.copy(value) for trait, value in values.items()}
        for section, values in c.items()
        if isinstance(values, Config)
    }


def _changed_traits(before: Snapshot, c: Config) -> Iterator[tuple[str, str]]:
    for section, values in c.items():
        if isinstance(values, Config):
            known = before.get(section, {})
            for trait, value in values.items():
                if trait not in known or not _is_equal(known[trait], value):
                    yield section, trait


def _subtract(now: object, own: object) -> object:
    """Return the part of a merged list, dict or set that the files have added."""
    if isinstance(now, dict) and isinstance(own, dict):
        return {key: value for key, value in now.items() if key not in own}
    if isinstance(now, list) and isinstance(own, list):
        return [entry for entry in now if entry not in own]
    if isinstance(now, set) and isinstance(own, set):
        return now - own
    return now


def _is_equal(one: object, other: object) -> bool:
    return one is other or (type(one) is type(other) and one == other)


def _require_classes(name: str, c: Config) -> None:
    for section, values in c.items():
        if not isinstance(values, Config):
            raise SettingsError(
                f"{name} sets c.{section}, but a trait belongs to a class: write c.JupyterHub.{section}, for example."
            )


def _load_authenticator(name: str, c: Config) -> None:
    """Import an authenticator that a file names, so that its traits are known."""
    chosen = c.JupyterHub.get("authenticator_class")
    if isinstance(chosen, str):
        try:
            c.JupyterHub.authenticator_class = JupyterHub.authenticator_class.validate(None, chosen)
        except TraitError as error:
            raise SettingsError(
                f"{name} sets c.JupyterHub.authenticator_class to {chosen!r}, but no such authenticator is installed."
            ) from error


def _require_policy(name: str, section: str, trait: str, value: object) -> None:
    instead = site_policy.explain_refusal(section, trait, value)
    if instead is not None:
        raise SettingsError(f"{name} cannot set c.{section}.{trait}: {instead}.")


def _require_known_trait(name: str, section: str, trait: str) -> None:
    classes: dict[str, set[type[Configurable]]] = {}
    for each in _walk(Configurable):
        classes.setdefault(each.__name__, set()).add(each)
    if section not in classes:
        raise SettingsError(
            f"{name} sets c.{section}.{trait}, but no part of the hub has this name{_suggest(section, classes)}. "
            "WORKBENCH_AUTHENTICATOR chooses the authenticator."
        )
    known = {
        known_trait
        for owner in classes[section]
        for each in (owner, *_walk(owner))
        for known_trait in each.class_trait_names(config=True)
    }
    if trait not in known:
        raise SettingsError(
            f"{name} sets c.{section}.{trait}, but {section} has no such trait{_suggest(trait, known)}."
        )


def _walk(owner: type[Configurable]) -> Iterator[type[Configurable]]:
    for each in owner.__subclasses__():
        yield each
        yield from _walk(each)


def _suggest(wrong: str, known: Iterable[str]) -> str:
    likely = difflib.get_close_matches(wrong, known, n=1)
    return f" (did you mean {likely[0]}?)" if likely else ""


def _merge(name: str, ours: Snapshot, c: Config) -> None:
    """Put the workbench's own entries back where a file has replaced a whole list, dict or set."""
    for section, trait in site_policy.MERGED:
        if trait not in ours.get(section, {}):
            continue
        own, now = ours[section][trait], c[section][trait]
        if isinstance(own, dict):
            for key in own.keys() & now.keys():
                if not _is_equal(own[key], now[key]):
                    raise SettingsError(
                        f"{name} cannot set {key!r} in c.{section}.{trait}: the workbench sets it."
                    )
            c[section][trait] = {**own, **now}
        elif isinstance(own, set):
            c[section][trait] = {*own, *now}
        else:
            missing = [entry for entry in own if entry not in now]
            # the first template of a name is rendered, so that a file can replace the workbench's
            is_first = (section, trait) == site_policy.TEMPLATES
            c[section][trait] = [*now, *missing] if is_first else [*missing, *now]
