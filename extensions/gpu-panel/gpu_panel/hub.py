"""Hub client: requests the lease of this server with the server's own token.

Every answer other than a lease becomes one ``HubError``; no request waits longer than a few seconds.
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
    """A request without a lease as its answer; ``status`` and the sentence ``message`` go to the client."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Hub:
    """The routes of the hub's REST API that concern one server."""

    def __init__(self, server_url: str, token: str) -> None:
        """Keep ``server_url``, the address of the server's routes, and the server's ``token``."""
        self._server_url = server_url
        self._headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Hub | None:
        """Return the client of the hub that started this server; None without a hub."""
        api, token = environment.get("JUPYTERHUB_API_URL"), environment.get("JUPYTERHUB_API_TOKEN")
        if not api or not token:
            return None
        name = quote(environment.get("JUPYTERHUB_SERVER_NAME", ""), safe="")
        server = f"servers/{name}" if name else "server"
        return cls(f"{api.rstrip('/')}/workbench/{server}", token)

    async def read(self) -> Lease:
        """Return the current lease; raises HubError."""
        return await self._request("GET", "lease", None)

    async def extend(self, hours: object) -> Lease:
        """Extend the lease by ``hours`` and return it; raises HubError with the hub's own sentence."""
        return await self._request("POST", "lease", json.dumps({"hours": hours}))

    async def keep_alive(self) -> Lease:
        """Reset the idle countdown and return the lease; raises HubError."""
        return await self._request("POST", "keep-alive", "{}")

    async def report(self, activity: Activity) -> Lease:
        """Send an activity report and return the lease; raises HubError."""
        report = {"schema": ACTIVITY_SCHEMA, **asdict(activity)}
        return await self._request("POST", "activity", json.dumps(report))

    async def _request(self, method: str, route: str, body: str | None) -> Lease:
        request = HTTPRequest(
            f"{self._server_url}/{route}",
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
    """Return the error for ``response``: the hub's own sentence, and 502 for a failure of the hub."""
    try:
        message = json.loads(response.body)["message"]
    except (ValueError, KeyError, TypeError):
        message = None
    if not isinstance(message, str) or not message:
        message = f"The hub answered {response.code}: try again in a moment."
    is_refusal = HTTPStatus.BAD_REQUEST <= response.code < HTTPStatus.INTERNAL_SERVER_ERROR
    return HubError(HTTPStatus(response.code) if is_refusal else HTTPStatus.BAD_GATEWAY, message)


def _parse_lease(body: bytes) -> Lease:
    try:
        answer = json.loads(body)
        return Lease(
            state=_expect(answer["state"], str, type(None)),
            gpu_count=_expect(answer["gpus"], int),
            seconds_left=_expect(answer["seconds_left"], int, float, type(None)),
            max_hours=_expect(answer["max_lease_hours"], int, float, type(None)),
            trouble=_expect(answer.get("trouble"), str, type(None)),
            idle_seconds_left=_expect(answer["idle_seconds_left"], int, float, type(None)),
            gpus_given_back=_expect(answer["gpus_given_back"], int, type(None)),
            home_size_bytes=_expect(answer["home_size_bytes"], int, type(None)),
            home_quota_bytes=_expect(answer["home_quota_bytes"], int, type(None)),
            confirmed=True,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(
            HTTPStatus.BAD_GATEWAY, "The hub's answer is not a lease: tell your admin."
        ) from error


def _expect(value: Any, *types: type) -> Any:  # noqa: ANN401 - a value of JSON
    """Return ``value`` if it has one of ``types`` and is finite; raises TypeError."""
    if type(value) not in types or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError
    return value
