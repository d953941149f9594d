"""The workbench's REST API as its command line asks it, with a token of the hub.

What the hub refuses is its own sentence; silence is Unknown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from spawner.model import SettingsError, Unknown, WorkbenchError

API_URL = "http://127.0.0.1:8081/hub/api"
"""Where the hub's own container reaches it."""
TIMEOUT_SECONDS = 30.0
DONE, REFUSED, UNKNOWN = 0, 1, 2


class HubRefused(WorkbenchError):  # noqa: N818
    """The hub's no, in its own sentence."""


class HubClient:
    """Asks one hub; ``url`` is that of its REST API."""

    def __init__(self, url: str, token: str) -> None:
        """Ask nothing yet."""
        if not url.startswith(("http://", "https://")):
            raise SettingsError(f"JUPYTERHUB_API_URL={url!r} cannot be used: give an http(s) URL.")
        self._url = url.rstrip("/")
        self._token = token

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> HubClient:
        """Return the client that ``JUPYTERHUB_API_TOKEN`` and ``JUPYTERHUB_API_URL`` describe; raises SettingsError."""
        token = environ.get("JUPYTERHUB_API_TOKEN", "")
        if not token:
            raise SettingsError(
                "There is no token: make one on the hub's page Token and set JUPYTERHUB_API_TOKEN to it."
            )
        return cls(environ.get("JUPYTERHUB_API_URL", "") or API_URL, token)

    def ask(
        self, method: str, path: str, body: object = None, query: Mapping[str, object] | None = None
    ) -> Any:  # noqa: ANN401
        """Return the answer as JSON, None where it is empty; raises HubRefused, Unknown."""
        with self._open(method, path, body, query) as answer:
            text = answer.read()
        try:
            return json.loads(text) if text else None
        except ValueError as error:
            raise self._no_hub() from error

    def lines(self, path: str, query: Mapping[str, object]) -> Iterator[str]:
        """Yield the lines of a text as they come; raises HubRefused, Unknown."""
        with self._open("GET", path, None, query) as answer:
            if answer.headers.get_content_type() == "text/html":
                raise self._no_hub()
            for line in answer:
                yield line.decode()

    @contextmanager
    def _open(
        self, method: str, path: str, body: object, query: Mapping[str, object] | None
    ) -> Iterator[HTTPResponse]:
        address = f"{self._url}/workbench/{path}" + (f"?{urlencode(query)}" if query else "")
        request = Request(  # noqa: S310 - the scheme was looked at
            address,
            method=method,
            # a date of a TOML file becomes a text, and the hub says what should be there
            data=None if body is None else json.dumps(body, default=str).encode(),
            headers={"Authorization": f"token {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                yield answer
        except HTTPError as error:
            kind = HubRefused if error.code < HTTPStatus.INTERNAL_SERVER_ERROR else Unknown
            raise kind(_read_sentence(error)) from error
        except (OSError, HTTPException, ValueError) as error:
            raise Unknown(f"The hub at {self._url} does not answer: {error}.") from error

    def _no_hub(self) -> Unknown:
        return Unknown(f"What answers at {self._url} is not the hub: correct JUPYTERHUB_API_URL.")


def segment(name: str) -> str:
    """Return ``name`` as one part of a path."""
    return quote(name, safe="")


def run_with_hub(
    work: Callable[[HubClient, argparse.Namespace], int], flags: argparse.Namespace
) -> int:
    """Do ``work`` with the hub of the environment and return the exit code; what went wrong is one line."""
    try:
        return work(HubClient.from_environ(os.environ), flags)
    except HubRefused as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    except (SettingsError, Unknown) as error:
        sys.stderr.write(f"{error}\n")
        return UNKNOWN


def _read_sentence(error: HTTPError) -> str:
    try:
        message = json.loads(error.read())["message"]
    except (OSError, ValueError, TypeError, KeyError):
        return f"The hub answered {error.code} {error.reason}."
    return str(message)
