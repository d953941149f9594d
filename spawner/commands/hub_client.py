"""Hub client: sends the command line's requests to the hub's REST API, with a JupyterHub token.

A refusal carries the hub's own sentence; silence is Unknown.
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
from spawner.settings import Settings

HUB_URL = "http://127.0.0.1:8081"
"""The hub's address within its container."""
TIMEOUT_SECONDS = 30.0
DONE, REFUSED, UNKNOWN = 0, 1, 2


class HubRefused(WorkbenchError):  # noqa: N818
    """A refusal, with the hub's own sentence."""


class HubClient:
    """Client of one hub; ``url`` is that of its REST API."""

    def __init__(self, url: str, token: str) -> None:
        """Keep URL and token; raises SettingsError."""
        if not url.startswith(("http://", "https://")):
            raise SettingsError(f"JUPYTERHUB_API_URL={url!r} is not valid: give an http(s) URL.")
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
        url = environ.get("JUPYTERHUB_API_URL", "")
        return cls(url or f"{HUB_URL}{Settings.from_environ(environ).base_path}hub/api", token)

    def request(
        self, method: str, path: str, body: object = None, query: Mapping[str, object] | None = None
    ) -> Any:  # noqa: ANN401
        """Return the answer as JSON, None where it is empty; raises HubRefused, Unknown."""
        with self._open(method, path, body, query) as answer:
            text = answer.read()
        try:
            return json.loads(text) if text else None
        except ValueError as error:
            raise self._not_a_hub() from error

    def stream_lines(self, path: str, query: Mapping[str, object]) -> Iterator[str]:
        """Yield the lines of a text while it arrives; raises HubRefused, Unknown."""
        with self._open("GET", path, None, query) as answer:
            if answer.headers.get_content_type() == "text/html":
                raise self._not_a_hub()
            for line in answer:
                yield line.decode()

    @contextmanager
    def _open(
        self, method: str, path: str, body: object, query: Mapping[str, object] | None
    ) -> Iterator[HTTPResponse]:
        address = f"{self._url}/workbench/{path}" + (f"?{urlencode(query)}" if query else "")
        request = Request(  # noqa: S310 - the scheme was checked
            address,
            method=method,
            # a date of a TOML file is sent as text; the hub names the expected type
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

    def _not_a_hub(self) -> Unknown:
        return Unknown(f"The server at {self._url} is not the hub: correct JUPYTERHUB_API_URL.")


def escape_segment(name: str) -> str:
    """Return ``name`` escaped as one segment of a path."""
    return quote(name, safe="")


def run_with_hub(
    work: Callable[[HubClient, argparse.Namespace], int], flags: argparse.Namespace
) -> int:
    """Run ``work`` with the hub of the environment and return the exit code; an error is one line."""
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
