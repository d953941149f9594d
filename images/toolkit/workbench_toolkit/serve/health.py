"""Subcommand ``wb health``: asks the model server of this container whether it answers.

The image's HEALTHCHECK runs it. A container without a model server is healthy.
"""

from __future__ import annotations

import argparse
import http.client
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from workbench_toolkit.serve import command as serve

PROC = Path("/proc")
SECONDS = 8.0
UNHEALTHY = 1
_ALL_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add none."""


def run(arguments: argparse.Namespace) -> int:
    """Return 0 if every model server of this container answers that it is ready, else 1."""
    del arguments
    troubles = [
        f"{host}:{port}: {trouble}"
        for host, port in list_servers()
        if (trouble := probe(host, port))
    ]
    sys.stdout.write("\n".join(troubles) + "\n" if troubles else "ready\n")
    return UNHEALTHY if troubles else 0


def list_servers(proc: Path = PROC) -> Iterator[tuple[str, int]]:
    """Yield host and port of every ``wb serve`` that runs."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    for path in sorted(proc.glob("[0-9]*/cmdline")):
        try:
            words = path.read_text(encoding="utf-8", errors="replace").split("\0")[:-1]
        except OSError:  # it ended meanwhile
            continue
        if given := _arguments_of_serve(words):
            flags, _ = parser.parse_known_args(given)
            yield flags.host, flags.port


def _arguments_of_serve(words: Sequence[str]) -> Sequence[str]:
    """Return the words behind ``wb serve``, none for another program."""
    for position in range(min(len(words) - 1, 3)):
        if Path(words[position]).name in ("wb", ".wb") and words[position + 1] == "serve":
            return words[position + 2 :]
    return ()


def probe(host: str, port: int) -> str | None:
    """Return None if the server at ``host`` and ``port`` is ready, else the trouble."""
    connection = http.client.HTTPConnection(_ALL_ADDRESSES.get(host, host), port, timeout=SECONDS)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer ({error})"
    finally:
        connection.close()
    return None if answer.status == http.HTTPStatus.OK else f"status {answer.status}"
