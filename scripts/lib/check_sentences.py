#!/usr/bin/env python3
"""check_sentences: counts the sentences and names that docs/contributing.md rules out, and compares with an allowance.

The allowance is scripts/lib/allowed_sentences.json. A count may only fall; a lower count has to be written down.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALLOWANCE = Path(__file__).with_name("allowed_sentences.json")
MAX_WORDS = 30

BANNED = re.compile(
    r"\b(whoever|whomever|nobody|somebody|anybody|everybody|anew|besides?|for ever|of these|town|towns|knocks?|knocked"
    r"|knocking|doors?|told|tells?|stands?|turnstile)\b",
    re.IGNORECASE,
)
VAGUE_SUBJECT = re.compile(r"(who|what)\b(?!.*\?$)", re.IGNORECASE)
# each first letter is in brackets, so that a rename over the whole tree leaves this list alone
RETIRED = re.compile(
    r"(?<![\w-])(?:[D]oor|[F]ormDoor|[S]erverDoor|[U]serDoor|[G]roupDoor|[K]NOCK_SECONDS|[t]ake_for_up|[s]tand_before"
    r"|[_]at_an_open_door|[_]turn_away|[Q]uotaDesk|[T]railDesk|[_]AnswersUsage|[L]edgerHold|[a]sk_sparingly"
    r"|[w]rite_quickly|[o]ff_loop|[O]ffLoop|[t]ake_turn|[t]urnstile|[b]ring_up|[b]ring_ups|[i]dle_ends"
    r"|[b]egin_what_is_due|[m]eet_again|[T]own|[M]apTown|[H]ubTown|[m]ap_town|[a]udit_town|[b]roker_house"
    r"|[l]edger_desk|[s]trange_bodies|[r]eturn-gpu|[e]nd-lease|[W]ORKBENCH_SHOW_LINE_NAMES|[s]how_line_names"
    r"|[c]ustom:workbench:line|[c]ustom:workbench:read:line)(?!\w)"
    r"|\b(?:[L]EAST|[M]OST)_\w+"
    r"|\bworkbench/(?:[l]ine|[l]ease|[h]ere|[a]gain)\b|/hub/[l]ine\b"
    r"|\bdef _?(?:say|see|find|look|ask|tell|hear)(?:_\w+)?\("
    r"|\bclass (?:[L]ook|[M]oment|[O]ffer|[W]ord|[A]gent)\b"
    r"|\b(?:[d]oors|[o]nly|[w]ords|[m]oments|[v]erdicts|[o]ffer|[o]rders|[w]orkshop|[m]ade|[e]nclosure|[c]rowd)\.py\b"
    r"|\b(?:[k]nock|[d]eparture|[v]isitor|[r]eissue|[b]ring_up|[f]arewell|[o]ff_loop|[l]ooks)\.py\b"
)
NEITHER_PROSE_NOR_CODE = {".lock", ".png", ".ico", ".svg", ".woff2"}
MAY_NAME_RETIRED = {
    "CHANGELOG.md",
    "scripts/lib/check_sentences.py",
    "tests/unit/scripts/test_check_sentences.py",
    "tests/unit/test_check_sentences.py",
}

SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]*]*\s+(?=[\"'(\[`*_]*[A-Z0-9`])")
CODE_SPAN = re.compile(r"``[^`]+``|`[^`]+`")
LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d+\.)\s+")
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
HASH_COMMENTS = {".sh", ".toml", ".yml", ".yaml", ".cfg", ".example", ".in"}
SLASH_COMMENTS = {".ts", ".tsx", ".js", ".mjs", ".c", ".h", ".css"}


@dataclass(frozen=True)
class Text:
    """One paragraph of prose and the line where it begins."""

    line: int
    words: str
    is_short: bool = False
    """Whether it is a heading or a table cell, which need not be a sentence."""


@dataclass(frozen=True)
class Finding:
    """One breach of a rule, where it is, and what it is."""

    file: str
    line: int
    kind: str
    detail: str

    @property
    def area(self) -> str:
        """The room that the file belongs to: a package of spawner or tests, else its first folder."""
        first, *rest = Path(self.file).parts
        if not rest:
            return "docs" if first.endswith(".md") else "root"
        if first in ("spawner", "tests", "images", "extensions") and len(rest) > 1:
            return f"{first}/{rest[0]}"
        return first

    def __str__(self) -> str:
        """Return it as a compiler would print it."""
        return f"{self.file}:{self.line}: {self.kind}: {self.detail}"


def split_paragraphs(text: str, first_line: int = 1) -> Iterator[Text]:
    """Yield the paragraphs and list items of a docstring or comment."""
    gathered: list[str] = []
    began = first_line
    for number, line in enumerate(text.splitlines(), first_line):
        item = LIST_ITEM.match(line)
        if gathered and (not line.strip() or item):
            yield Text(began, " ".join(gathered))
            gathered = []
        if not line.strip():
            continue
        if not gathered:
            began = number
        gathered.append(line[item.end() :].strip() if item else line.strip())
    if gathered:
        yield Text(began, " ".join(gathered))


def read_markdown(source: str) -> Iterator[Text]:
    """Yield the prose of a Markdown page: no code blocks, table cells and headings apart."""
    prose: list[str] = []
    is_code = False
    for number, line in enumerate(source.splitlines(), 1):
        bare = line.strip()
        if bare.startswith("```"):
            is_code = not is_code
            prose.append("")
        elif is_code or (re.match(r" {4,}\S", line) and not (prose and prose[-1].strip())):
            prose.append("")
        elif bare.startswith("|"):
            yield from (Text(number, cell.strip(), True) for cell in bare.strip("|").split("|"))
            prose.append("")
        elif bare.startswith("#"):
            yield Text(number, bare.lstrip("# "), True)
            prose.append("")
        else:
            prose.append(re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", line))
    yield from split_paragraphs("\n".join(prose))


def read_python(source: str) -> Iterator[Text]:
    """Yield docstrings, comments and log messages of a Python file."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                yield from split_paragraphs(node.value.value, node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            message = getattr(node.args[0], "value", None) if node.args else None
            if node.func.attr in LOG_METHODS and isinstance(message, str):
                yield Text(node.lineno, message)
    comments = [
        (token.start[0], token.start[1], token.string.lstrip("#: "))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    yield from _join_lines(comments)


def _join_lines(comments: Iterable[tuple[int, int, str]]) -> Iterator[Text]:
    # comment lines below each other at one column are one paragraph
    began, last, column, gathered = 0, 0, -1, list[str]()
    for line, at, words in comments:
        if gathered and (line != last + 1 or at != column):
            yield from split_paragraphs("\n".join(gathered), began)
            gathered = []
        if not gathered:
            began, column = line, at
        gathered.append(re.sub(r"noqa:.*|type: ignore.*|fmt: \w+|!/.*", "", words))
        last = line
    if gathered:
        yield from split_paragraphs("\n".join(gathered), began)


def read_comments(source: str, mark: str) -> Iterator[Text]:
    """Yield the comments that begin with ``mark`` (``#`` or ``//``), ``/* */`` with the second."""
    found: list[tuple[int, int, str]] = []
    in_block = False
    for number, line in enumerate(source.splitlines(), 1):
        if mark == "//":
            block = re.search(r"(?:^|\s)/\*+(.*?)(\*/|$)", line)
            if in_block or block:
                words = line if in_block else block[1] if block else ""
                found.append((number, 0, words.split("*/")[0].strip(" *")))
                in_block = "*/" not in line[line.find("/*") + 2 if block and not in_block else 0 :]
                continue
        comment = re.search(rf"(?:^|\s){mark}(?![!])\s*(.*)$", line)
        if (
            comment
            and line.count('"', 0, comment.start()) % 2 == 0
            and line.count("'", 0, comment.start()) % 2 == 0
        ):
            found.append((number, comment.start(), comment[1]))
    yield from _join_lines(found)


def read_openapi(source: str) -> Iterator[Text]:
    """Yield the summaries and descriptions of a JSON document."""
    for number, line in enumerate(source.splitlines(), 1):
        for match in re.finditer(r'"(?:summary|description)":\s*("(?:[^"\\]|\\.)*")', line):
            yield Text(number, json.loads(match[1]))


def read_texts(file: str, source: str) -> Iterator[Text]:
    """Yield the prose of a file, by its kind."""
    path = Path(file)
    first_line = source.split("\n", 1)[0]
    if path.suffix == ".md":
        yield from read_markdown(source)
    elif path.suffix == ".py" or ("python" in first_line and first_line.startswith("#!")):
        yield from read_python(source)
    elif path.suffix in SLASH_COMMENTS:
        yield from read_comments(source, "//")
    elif (
        path.suffix in HASH_COMMENTS
        or path.name.startswith("Dockerfile")
        or first_line.startswith("#!")
    ):
        yield from read_comments(source, "#")
    elif path.suffix == ".html":
        for match in re.finditer(r"\{#(.*?)#\}", source, re.DOTALL):
            yield from split_paragraphs(match[1], source.count("\n", 0, match.start()) + 1)
    elif path.name == "openapi.json":
        yield from read_openapi(source)


def check_text(file: str, text: Text) -> Iterator[Finding]:
    """Yield the banned words and overlong sentences of one paragraph."""
    if re.search("[├└│─▼►]", text.words):
        return  # a drawing
    for sentence in SENTENCE_END.split(CODE_SPAN.sub("`x`", text.words)):
        for match in BANNED.finditer(sentence):
            yield Finding(file, text.line, "word", f"{match[0].lower()!r} in: {sentence[:90]}")
        if VAGUE_SUBJECT.match(sentence) and not text.is_short:
            yield Finding(file, text.line, "word", f"a clause as subject: {sentence[:90]}")
        count = sum(any(letter.isalnum() for letter in word) for word in sentence.split())
        if count > MAX_WORDS:
            yield Finding(file, text.line, "long", f"{count} words: {sentence[:90]}")


def check_names(file: str, source: str) -> Iterator[Finding]:
    """Yield the retired identifiers of one file."""
    if file in MAY_NAME_RETIRED:
        return
    for number, line in enumerate(source.splitlines(), 1):
        for match in RETIRED.finditer(line):
            yield Finding(file, number, "name", match[0])


def check_file(file: str, source: str) -> Iterator[Finding]:
    """Yield everything that is wrong in one file."""
    for text in read_texts(file, source):
        yield from check_text(file, text)
    yield from check_names(file, source)


def list_files(root: Path) -> list[str]:
    """Return what git keeps or would keep, without files that are neither prose nor code."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603
    return [
        name
        for name in sorted(set(listed.stdout.splitlines()))
        if Path(name).suffix not in NEITHER_PROSE_NOR_CODE
        and Path(name).name not in ("LICENSE", "package-lock.json", ALLOWANCE.name)
        and (root / name).is_file()
    ]


def check_tree(root: Path) -> list[Finding]:
    """Return the findings of the whole tree, by file and line."""
    findings: list[Finding] = []
    for file in list_files(root):
        try:
            source = (root / file).read_text()
        except UnicodeDecodeError:
            continue
        findings.extend(sorted(check_file(file, source), key=lambda one: one.line))
    return findings


def count_by_area(findings: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """Return the number of findings by area and kind; what is zero is left out."""
    counts = Counter((finding.area, finding.kind) for finding in findings)
    areas: dict[str, dict[str, int]] = {}
    for (area, kind), number in sorted(counts.items()):
        areas.setdefault(area, {})[kind] = number
    return areas


def compare(
    counts: dict[str, dict[str, int]], allowed: dict[str, dict[str, int]]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the (area, kind) pairs above their allowance, and a line for each one below it."""
    above, below = [], []
    pairs = {(area, kind) for side in (counts, allowed) for area in side for kind in side[area]}
    for area, kind in sorted(pairs):
        count, limit = counts.get(area, {}).get(kind, 0), allowed.get(area, {}).get(kind, 0)
        if count > limit:
            above.append((area, kind))
        elif count < limit:
            below.append(f"{area} {kind}: {count} found, {limit} allowed")
    return above, below


def main(words: list[str] | None = None) -> int:
    """Print what is wrong and return the exit code."""
    parser = argparse.ArgumentParser("check_sentences", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    parser.add_argument(
        "--list",
        action="store_true",
        help="print every finding and the counts, and compare nothing",
    )
    parser.add_argument(
        "--lower", action="store_true", help="write the lower counts into the allowance"
    )
    flags = parser.parse_args(words)
    findings = check_tree(flags.root)
    counts = count_by_area(findings)
    if flags.list:
        sys.stdout.writelines(f"{finding}\n" for finding in findings)
        sys.stdout.write(json.dumps(counts, indent=1) + "\n")
        return 0
    allowed = json.loads(ALLOWANCE.read_text())
    above, below = compare(counts, allowed)
    for finding in findings:
        if (finding.area, finding.kind) in above:
            sys.stdout.write(f"{finding}\n")
    for area, kind in above:
        limit = allowed.get(area, {}).get(kind, 0)
        sys.stdout.write(
            f"{area} {kind}: {counts[area][kind]} found, {limit} allowed; see docs/contributing.md.\n"
        )
    if below and flags.lower and not above:
        ALLOWANCE.write_text(json.dumps(counts, indent=1) + "\n")
        below = []
    if below:
        sys.stdout.write("\n".join(below) + "\n")
        sys.stdout.write("Write the lower counts down: scripts/lib/check_sentences.py --lower\n")
    return 1 if above or below else 0


if __name__ == "__main__":
    sys.exit(main())
