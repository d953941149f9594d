"""``workbench quota``: lists, shows and changes quota rows, one by one or by a file.

A quota file is TOML: ``[default]``, ``[groups.NAME]``, ``[users.NAME]``. ``apply`` prints the changes first and makes
exactly these.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spawner.commands.hub_client import (
    DONE,
    REFUSED,
    HubClient,
    HubRefused,
    escape_segment,
    run_with_hub,
)
from spawner.commands.noun import Noun, add_json_flag
from spawner.commands.table import print_table
from spawner.policy.formatting import format_gpu_count
from spawner.policy.quota_rows import quota_fields

_SUBJECT = "default, group:NAME or user:NAME"


def add_quota_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "quota", "list, show, set, clear, export and apply quotas")
    add_json_flag(noun.add_verb("list", "list all rows", lambda flags: run_with_hub(_list, flags)))
    show = noun.add_verb(
        "show",
        "print a row; of a user, the effective quota and the source of each field",
        lambda flags: run_with_hub(_show, flags),
    )
    set_ = noun.add_verb(
        "set",
        "change fields of a row; `none` clears a field",
        lambda flags: run_with_hub(_set, flags),
    )
    clear = noun.add_verb("clear", "delete a row", lambda flags: run_with_hub(_clear, flags))
    for verb in (show, set_, clear):
        verb.add_argument("subject", metavar="SUBJECT", help=_SUBJECT)
        add_json_flag(verb)
    for field in quota_fields():
        is_list = field.kind is list
        set_.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=_texts if is_list else _number,
            metavar="R,R" if is_list else "N",
            dest=field.name,
            help=field.bounds,
        )
    noun.add_verb(
        "export",
        "print all rows as a quota file (TOML)",
        lambda flags: run_with_hub(_export, flags),
    )
    apply_ = noun.add_verb(
        "apply",
        "replace all rows by those of a quota file",
        lambda flags: run_with_hub(_apply, flags),
    )
    apply_.add_argument("file", type=Path, metavar="FILE.toml", help="- is standard input")
    apply_.add_argument("--yes", action="store_true", help="apply without asking")
    add_json_flag(apply_)
    for verb in (set_, clear, apply_):
        verb.add_argument("--reason", help="the reason, kept in the audit trail")
    return noun


_NONE = "none"


def _number(text: str) -> float | int | str:
    if text == _NONE:
        return _NONE
    try:
        return int(text)
    except ValueError:
        return float(text)


def _texts(text: str) -> list[str] | str:
    return _NONE if text == _NONE else text.split(",")


def _row_path(subject: str) -> str:
    kind, colon, name = subject.partition(":")
    if subject == "default":
        return "quotas/default"
    if kind in ("group", "user") and colon and name:
        return f"quotas/{kind}s/{escape_segment(name)}"
    raise HubRefused(f"{subject!r} is no subject: give {_SUBJECT}.")


# --- one row


def _show(hub: HubClient, flags: argparse.Namespace) -> int:
    path = _row_path(flags.subject)
    is_user = flags.subject.startswith("user:")
    answer = hub.request("GET", f"{path}/effective" if is_user else path)
    if flags.json:
        sys.stdout.write(json.dumps(answer) + "\n")
    elif is_user:
        sys.stdout.writelines(_format_effective(answer))
    else:
        sys.stdout.writelines(f"{line}\n" for line in _format_row(answer) or ["no field is set"])
    return DONE


def _set(hub: HubClient, flags: argparse.Namespace) -> int:
    path = _row_path(flags.subject)
    given = {field.name: getattr(flags, field.name) for field in quota_fields()}
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        sys.stderr.write("Give a field to set, such as --max-gpus 2.\n")
        return REFUSED
    row = {**hub.request("GET", path), **changes}
    row = {name: value for name, value in row.items() if value != _NONE}
    answer = hub.request("PUT", path, {**row, "reason": flags.reason})
    text = "; ".join(_format_row(answer)) or "no field is set"
    sys.stdout.write(json.dumps(answer) if flags.json else f"{flags.subject}: {text}")
    sys.stdout.write("\n")
    return DONE


def _clear(hub: HubClient, flags: argparse.Namespace) -> int:
    path = _row_path(flags.subject)
    hub.request("DELETE", path, query={"reason": flags.reason} if flags.reason else None)
    sys.stdout.write(json.dumps({}) if flags.json else f"{flags.subject}: no row.")
    sys.stdout.write("\n")
    return DONE


def _format_row(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{field.name} {_format_value(row[field.name])}"
        for field in quota_fields()
        if field.name in row
    ]


def _format_value(value: object) -> str:
    return ",".join(value) if isinstance(value, list) else f"{value:g}"


def _format_effective(answer: Mapping[str, Any]) -> Iterator[str]:
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
    answer = hub.request("GET", "quotas")
    if flags.json:
        sys.stdout.write(json.dumps(answer) + "\n")
        return DONE
    heads = ("SUBJECT", *(field.head for field in quota_fields()))
    print_table(heads, [_cells(subject, row) for subject, row in _flatten(answer["quotas"])])
    return DONE


def _flatten(file: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "default", file["default"]
    for plural in ("groups", "users"):
        yield from ((f"{plural[:-1]}:{name}", row) for name, row in file[plural].items())


def _cells(subject: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    values = (row.get(field.name) for field in quota_fields())
    return (subject, *("-" if value is None else _format_value(value) for value in values))


def _export(hub: HubClient, _: argparse.Namespace) -> int:
    file = hub.request("GET", "quotas")["quotas"]
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
    # JSON escapes as TOML does, except for this character, which JSON does not escape
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _apply(hub: HubClient, flags: argparse.Namespace) -> int:
    try:
        is_input = str(flags.file) == "-"
        file = tomllib.loads(sys.stdin.read() if is_input else flags.file.read_text())
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{flags.file} cannot be read: {error}.\n")
        return REFUSED
    body = {"quotas": file, "reason": flags.reason}
    changes = hub.request("POST", "quotas", body, {"dry-run": ""})["changes"]
    if not flags.json:
        sys.stdout.writelines(
            [_format_change(change) for change in changes] or ["Nothing changes.\n"]
        )
    is_confirmed = not changes or flags.yes or _confirm()
    if is_confirmed and changes:
        hub.request("POST", "quotas", {**body, "changes": changes})
    if flags.json:
        sys.stdout.write(json.dumps({"changes": changes, "applied": is_confirmed}) + "\n")
    elif is_confirmed and changes:
        sys.stdout.write("Applied.\n")
    if not is_confirmed:
        sys.stderr.write("Nothing was changed.\n")
    return DONE if is_confirmed else REFUSED


def _confirm() -> bool:
    if not sys.stdin.isatty():
        sys.stderr.write("Give --yes to apply this. ")
        return False
    sys.stderr.write("Apply? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _format_change(change: Mapping[str, Any]) -> str:
    before, after = change["before"] or {}, change["after"] or {}
    sign = "+" if not before else "-" if not after else "~"
    parts = []
    for field in quota_fields():
        was, becomes = before.get(field.name), after.get(field.name)
        if was == becomes:
            continue
        old, new = (_NONE if value is None else _format_value(value) for value in (was, becomes))
        parts.append(f"{field.name} {old} → {new}")
    return f"{sign} {change['subject']}: {', '.join(parts)}\n"
