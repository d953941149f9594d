"""OpenID provider: reads the provider's own configuration; a wrong setting is no silent provider.

A silent provider is ``Unknown``: it logs no user out. A provider that answers otherwise than the settings say is a
``SettingsError`` with the fix.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus

from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest

from spawner.model import SettingsError, Unknown
from spawner.settings import Settings

WELL_KNOWN = "/.well-known/openid-configuration"
CONNECT_SECONDS = 3.0
REQUEST_SECONDS = 5.0
KEPT_SECONDS = 30.0


@dataclass(frozen=True)
class ProviderEndpoints:
    """The addresses of one provider; ``end_session`` is empty where it has no log-out."""

    authorize: str
    token: str
    userinfo: str
    end_session: str


class ProviderSilent(Unknown):
    """The provider gave no answer that says anything about a user."""

    def __init__(self, address: str) -> None:
        """Name the provider by its ``address``."""
        super().__init__(
            f"The log-in provider {address} does not answer, and running servers go on"
        )


class OpenIDProvider:
    """The provider of one issuer; its answer is kept for some seconds."""

    def __init__(self, issuer: str) -> None:
        """Ask nothing yet."""
        self.issuer = issuer
        self._known: ProviderEndpoints | None = None
        self._read_at = 0.0

    @property
    def known(self) -> ProviderEndpoints | None:
        """The last answer, None before the first."""
        return self._known

    async def endpoints(self) -> ProviderEndpoints:
        """Return the addresses of the provider; raises ProviderSilent, SettingsError."""
        if self._known is None or time.monotonic() - self._read_at > KEPT_SECONDS:
            self._known = read_endpoints(self.issuer, await self._fetch())
            self._read_at = time.monotonic()
        return self._known

    def forget(self) -> None:
        """Ask again at the next log-in: the provider was silent."""
        self._read_at = -KEPT_SECONDS

    async def _fetch(self) -> bytes:
        request = HTTPRequest(
            f"{self.issuer}{WELL_KNOWN}",
            connect_timeout=CONNECT_SECONDS,
            request_timeout=REQUEST_SECONDS,
        )
        try:
            answer = await AsyncHTTPClient().fetch(request)
        except HTTPError as error:
            if is_silence(error):
                raise ProviderSilent(self.issuer) from error
            raise SettingsError(
                f"WORKBENCH_OAUTH_ISSUER={self.issuer} is no OpenID provider: {request.url} answers {error.code}."
            ) from error
        except OSError as error:
            raise ProviderSilent(self.issuer) from error
        return bytes(answer.body)


def is_silence(error: Exception) -> bool:
    """Return whether a failed request says nothing about a user: no connection, no answer in time, or a 5xx."""
    if isinstance(error, HTTPError):
        return bool(
            error.code >= HTTPStatus.INTERNAL_SERVER_ERROR
            or error.code == HTTPStatus.TOO_MANY_REQUESTS
        )
    return isinstance(error, OSError)


def read_endpoints(issuer: str, body: bytes) -> ProviderEndpoints:
    """Return the endpoints of a provider's configuration; raises SettingsError."""
    try:
        found = json.loads(body)
        stated = found["issuer"]
        endpoints = ProviderEndpoints(
            found["authorization_endpoint"],
            found["token_endpoint"],
            found["userinfo_endpoint"],
            found.get("end_session_endpoint", ""),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"WORKBENCH_OAUTH_ISSUER={issuer} is no OpenID provider: {issuer}{WELL_KNOWN} has no usable configuration."
        ) from error
    if str(stated).rstrip("/") != issuer:
        raise SettingsError(
            f"The provider at {issuer} calls itself {str(stated)[:200]}: set WORKBENCH_OAUTH_ISSUER to that."
        )
    return endpoints


def main() -> None:
    """Check the provider of the settings: a wrong setting is an error, a silent provider a note."""
    try:
        settings = Settings.from_environ(os.environ)
        if settings.has_openid:
            asyncio.run(OpenIDProvider(settings.oauth_issuer).endpoints())
    except SettingsError as error:
        sys.exit(f"error: {error}")
    except ProviderSilent as error:
        print(f"{error}: log-ins work as soon as it answers.")  # noqa: T201 - scripts/up shows it


if __name__ == "__main__":
    main()
