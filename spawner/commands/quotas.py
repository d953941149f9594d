"""The commands ``workbench quotas`` and ``workbench quota``: rows and effective quotas over the hub's REST API.

A quota file is TOML: ``[default]``, ``[groups.NAME]``, ``[users.NAME]``; what applying it changes is shown first, and
nothing else is done.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spawner.commands.hub_client import DONE, REFUSED, HubClient, HubRefused, run_with_hub, segment
from spawner.commands.table import print_table
from spawner.policy.quota_rows import QuotaRow
from spawner.policy.formatting import format_gpu_count

_NUMBERS = ("max_gpus", "gpu_hours", "window_days", "max_lease_hours", "priority", "total_gpus")
_HEADS = ("SUBJECT", "GPUS", "GPU-HOURS", "DAYS", "LEASE-HOURS", "PRIORITY", "TOTAL", "RELEASES")
_SUBJECT = "default, group:NAME or user:NAME"


def add_quota_commands(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type to itself
    """Add both to the ``commands`` of a parser."""
    command = commands.add_parser("quotas", help="list, export or apply everybody's quotas")
    _add_json(command)
    command.set_defaults(run=lambda flags: run_with_hub(_list, flags))
    parts = command.add_subparsers(metavar="export|apply")
    part = parts.add_parser("export", help="print all rows as a quota file (TOML)")
    part.set_defaults(run=lambda flags: run_with_hub(_export, flags))
    part = parts.add_parser("apply", help="make the rows exactly what a quota file says")
    part.add_argument("file", type=Path, metavar="FILE.toml", help="- is standard input")
    part.add_argument("--yes", action="store_true", help="apply without asking")
    _add_json(part)
    part.add_argument("--reason", help="why; kept in the audit trail")
    part.set_defaults(run=lambda flags: run_with_hub(_apply, flags))
    _add_quota(commands.add_parser("quota", help="show, set or clear one quota"))


def _add_quota(command: argparse.ArgumentParser) -> None:
    parts = command.add_subparsers(required=True, metavar="show|set|clear")
    part = parts.add_parser("show", help="print a row; of a user, what all rows come to, and why")
    part.add_argument("subject", metavar="SUBJECT", help=_SUBJECT)
    _add_json(part)
    part.set_defaults(run=lambda flags: run_with_hub(_show, flags))
    part = parts.add_parser("set", help="change what a row says; `none` is: not said here")
    part.add_argument("subject", metavar="SUBJECT", help=_SUBJECT)
    for name in _NUMBERS:
        part.add_argument(f"--{name.replace('_', '-')}", type=_number, metavar="N", dest=name)
    part.add_argument("--releases", type=_releases, metavar="R,R", help="those that may be started")
    part.add_argument("--reason", help="why; kept in the audit trail")
    _add_json(part)
    part.set_defaults(run=lambda flags: run_with_hub(_set, flags))
    part = parts.add_parser("clear", help="delete a row")
    part.add_argument("subject", metavar="SUBJECT", help=_SUBJECT)
    part.add_argument("--reason", help="why; kept in the audit trail")
    _add_json(part)
    part.set_defaults(run=lambda flags: run_with_hub(_clear, flags))


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object")


_NONE = "none"


def _number(text: str) -> float | int | str:
    if text == _NONE:
        return _NONE
    try:
        return int(text)
    except ValueError:
        return float(text)


def _releases(text: str) -> list[str] | str:
    return _NONE if text == _NONE else text.split(",")


def _find_path(subject: str) -> str:
    kind, colon, name = subject.partition(":")
    if subject == "default":
        return "quotas/default"
    if kind in ("group", "user") and colon and name:
        return f"quotas/{kind}s/{segment(name)}"
    raise HubRefused(f"{subject!r} is no subject: give {_SUBJECT}.")


# --- one row


def _show(hub: HubClient, flags: argparse.Namespace) -> int:
    path = _find_path(flags.subject)
    is_user = flags.subject.startswith("user:")
    answer = hub.ask("GET", f"{path}/effective" if is_user else path)
    if flags.json:
        sys.stdout.write(json.dumps(answer) + "\n")
    elif is_user:
        sys.stdout.writelines(_say_effective(answer))
    else:
        sys.stdout.writelines(f"{line}\n" for line in _say_row(answer) or ["nothing is said here"])
    return DONE


def _set(hub: HubClient, flags: argparse.Namespace) -> int:
    path = _find_path(flags.subject)
    given = {name: getattr(flags, name) for name in (*_NUMBERS, "releases")}
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        sys.stderr.write("Say what to set, such as --max-gpus 2.\n")
        return REFUSED
    row = {**hub.ask("GET", path), **changes}
    said = {name: value for name, value in row.items() if value != _NONE}
    answer = hub.ask("PUT", path, {**said, "reason": flags.reason})
    words = "; ".join(_say_row(answer)) or "nothing is said here"
    sys.stdout.write(json.dumps(answer) if flags.json else f"{flags.subject}: {words}")
    sys.stdout.write("\n")
    return DONE


def _clear(hub: HubClient, flags: argparse.Namespace) -> int:
    path = _find_path(flags.subject)
    hub.ask("DELETE", path, query={"reason": flags.reason} if flags.reason else None)
    sys.stdout.write(json.dumps({}) if flags.json else f"{flags.subject}: no row.")
    sys.stdout.write("\n")
    return DONE


def _say_row(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {_say_value(row[name])}" for name in QuotaRow.__dataclass_fields__ if name in row
    ]


def _say_value(value: object) -> str:
    return ",".join(value) if isinstance(value, list) else f"{value:g}"


def _say_effective(answer: Mapping[str, Any]) -> Iterator[str]:
    for one in answer["explained"]:
        yield f"{one['what']}: {one['why']}\n"
    yield f"holds or waits for {format_gpu_count(answer['gpus'])}"
    if answer["gpu_hours_left"] is not None:
        yield f"; {answer['gpu_hours_held']:g} GPU-hours held, {answer['gpu_hours_left']:g} left"
    yield "\n"
    yield from (f"over quota: {sentence}\n" for sentence in answer["over_quota"])
    yield from (f"refused now: {sentence}\n" for sentence in answer["refused_now"])


# --- all rows


def _list(hub: HubClient, flags: argparse.Namespace) -> int:
    answer = hub.ask("GET", "quotas")
    if flags.json:
        sys.stdout.write(json.dumps(answer) + "\n")
        return DONE
    print_table(_HEADS, [_cells(subject, row) for subject, row in _flatten(answer["quotas"])])
    return DONE


def _flatten(file: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "default", file["default"]
    for plural in ("groups", "users"):
        yield from ((f"{plural[:-1]}:{name}", row) for name, row in file[plural].items())


def _cells(subject: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    said = (row.get(name) for name in (*_NUMBERS, "releases"))
    return (subject, *("-" if value is None else _say_value(value) for value in said))


def _export(hub: HubClient, _: argparse.Namespace) -> int:
    file = hub.ask("GET", "quotas")["quotas"]
    sys.stdout.write("\n".join(_as_toml(file)))
    return DONE


def _as_toml(file: Mapping[str, Any]) -> Iterator[str]:
    for subject, row in _flatten(file):
        kind, _, name = subject.partition(":")
        yield f"[{kind}s.{_quote(name)}]" if name else f"[{kind}]"
        yield from (f"{key} = {_as_toml_value(value)}" for key, value in row.items())
        yield ""


def _as_toml_value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_quote, value))}]"
    return json.dumps(value)


def _quote(text: str) -> str:
    # JSON's escapes are TOML's, but for this one character, which JSON leaves as it is
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _apply(hub: HubClient, flags: argparse.Namespace) -> int:
    try:
        is_input = str(flags.file) == "-"
        file = tomllib.loads(sys.stdin.read() if is_input else flags.file.read_text())
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{flags.file} cannot be read: {error}.\n")
        return REFUSED
    body = {"quotas": file, "reason": flags.reason}
    changes = hub.ask("POST", "quotas", body, {"dry-run": ""})["changes"]
    if not flags.json:
        sys.stdout.writelines([_say_change(change) for change in changes] or ["Nothing changes.\n"])
    is_wanted = not changes or flags.yes or _is_wanted()
    if is_wanted and changes:
        hub.ask("POST", "quotas", {**body, "changes": changes})
    if flags.json:
        sys.stdout.write(json.dumps({"changes": changes, "applied": is_wanted}) + "\n")
    elif is_wanted and changes:
        sys.stdout.write("Applied.\n")
    if not is_wanted:
        sys.stderr.write("Nothing was changed.\n")
    return DONE if is_wanted else REFUSED


def _is_wanted() -> bool:
    if not sys.stdin.isatty():
        sys.stderr.write("Give --yes to apply this. ")
        return False
    sys.stderr.write("Apply? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _say_change(change: Mapping[str, Any]) -> str:
    before, after = change["before"] or {}, change["after"] or {}
    sign = "+" if not before else "-" if not after else "~"
    parts = []
    for name in QuotaRow.__dataclass_fields__:
        was, becomes = before.get(name), after.get(name)
        if was == becomes:
            continue
        words = [_NONE if value is None else _say_value(value) for value in (was, becomes)]
        parts.append(f"{name} {words[0]} → {words[1]}")
    return f"{sign} {change['subject']}: {', '.join(parts)}\n"
