"""Asks the hub about the lease of this server, with the server's own token.

Whatever the hub says instead of a lease becomes one ``HubError``; nothing here waits longer than a few seconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from gpu_panel.message import ACTIVITY_SCHEMA, Activity, Lease

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0


class HubError(Exception):
    """No lease came of it; ``status`` and the sentence ``message`` are for whoever asked."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Hub:
    """The hub's REST API, as far as it is about the lease of one server."""

    def __init__(self, url: str, server: str, token: str) -> None:
        """Take the API's ``url``, the ``server``'s name as it stands in addresses, and its ``token``."""
        self._url = url
        self._server = server
        self._headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Hub | None:
        """Return the hub that started this server; None where none did."""
        api, token = environment.get("JUPYTERHUB_API_URL"), environment.get("JUPYTERHUB_API_TOKEN")
        if not api or not token:
            return None
        server = quote(environment.get("JUPYTERHUB_SERVER_NAME", ""), safe="")
        return cls(f"{api.rstrip('/')}/workbench", server, token)

    async def read(self) -> Lease:
        """Return the lease as it is now; raises HubError."""
        return await self._ask("GET", "lease", None)

    async def extend(self, hours: object) -> Lease:
        """Ask for ``hours`` more and return the lease as it is then; raises HubError, with the hub's own words."""
        return await self._ask("POST", "lease", json.dumps({"hours": hours}))

    async def stay(self) -> Lease:
        """Say that the user is still here, and return the lease as it is then; raises HubError."""
        return await self._ask("POST", "here", "{}")

    async def report(self, activity: Activity) -> Lease:
        """Say what this server does, and return the lease as it is now; raises HubError."""
        said = {"schema": ACTIVITY_SCHEMA, **asdict(activity)}
        return await self._ask("POST", "activity", json.dumps(said))

    async def _ask(self, method: str, about: str, body: str | None) -> Lease:
        request = HTTPRequest(
            f"{self._url}/{about}/{self._server}",
            method,
            self._headers,
            body,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=ANSWER_SECONDS,
        )
        try:
            response = await AsyncHTTPClient().fetch(request, raise_error=False)
        except (OSError, HTTPClientError) as error:
            raise HubError(
                HTTPStatus.BAD_GATEWAY, "The hub does not answer: try again in a moment."
            ) from error
        if response.code != HTTPStatus.OK:
            raise _build_refusal(response)
        return _parse_lease(response.body)


def _build_refusal(response: HTTPResponse) -> HubError:
    """Return the hub's "no" in its own sentence, and what failed in it as a bad gateway."""
    try:
        message = json.loads(response.body)["message"]
    except (ValueError, KeyError, TypeError):
        message = None
    if not isinstance(message, str) or not message:
        message = f"The hub answered {response.code}: try again in a moment."
    is_no = HTTPStatus.BAD_REQUEST <= response.code < HTTPStatus.INTERNAL_SERVER_ERROR
    return HubError(HTTPStatus(response.code) if is_no else HTTPStatus.BAD_GATEWAY, message)


def _parse_lease(body: bytes) -> Lease:
    try:
        said = json.loads(body)
        return Lease(
            state=_expect(said["state"], str, type(None)),
            gpu_count=_expect(said["gpus"], int),
            seconds_left=_expect(said["seconds_left"], int, float, type(None)),
            most_hours=_expect(said["max_lease_hours"], int, float, type(None)),
            trouble=_expect(said.get("trouble"), str, type(None)),
            idle_seconds_left=_expect(said["idle_seconds_left"], int, float, type(None)),
            gpus_given_back=_expect(said["gpus_given_back"], int, type(None)),
            confirmed=True,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(
            HTTPStatus.BAD_GATEWAY, "The hub's answer about the lease was not understood."
        ) from error


def _expect(value: Any, *types: type) -> Any:  # noqa: ANN401  (whatever JSON holds)
    """Return ``value`` if it has one of ``types`` and is finite; raises TypeError."""
    if type(value) not in types or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError
    return value
