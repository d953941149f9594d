"""The workbench's rules for every authenticator of ``oauthenticator``, without a provider."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from oauthenticator.oauth2 import OAuthenticator
from tornado.httpclient import HTTPClientError

from spawner.hub.handlers.provider_sign_in import FRESH_SECONDS, with_provider_rules

KEY = "of a provider whose signature the hub does not need"


class ScriptedOAuthenticator(OAuthenticator):  # type: ignore[misc]
    """An authenticator whose refresh is counted, and answered by ``answer``."""

    calls = 0
    answer: Any = True

    async def refresh_user(self, user: Any, handler: Any = None, **_: Any) -> Any:
        self.calls += 1
        await asyncio.sleep(0.01)
        if isinstance(self.answer, Exception):
            # the package turns every error of a token request into "log in again"
            try:
                await self.httpfetch("https://login.lab.example/token")
            except Exception:  # noqa: BLE001 - as the package does
                return False
        return self.answer


class FailingClient:
    """An HTTP client whose every request fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def fetch(self, *_: Any, **__: Any) -> Any:
        raise self.error


def make_authenticator(answer: Any = True) -> Any:
    made = with_provider_rules(ScriptedOAuthenticator, lambda: SimpleNamespace())()  # type: ignore[arg-type,return-value]
    made.answer, made.client_id = answer, "workbench"
    if isinstance(answer, Exception):
        made.http_client = FailingClient(answer)
    return made


def make_user(id_token: str = "") -> Any:
    async def get_auth_state() -> dict[str, str]:
        return {"id_token": id_token}

    return SimpleNamespace(name="bob", get_auth_state=get_auth_state)


async def test_requests_at_the_same_moment_share_one_refresh() -> None:
    authenticator, user = make_authenticator(), make_user()
    answers = await asyncio.gather(*(authenticator.refresh_user(user) for _ in range(6)))
    assert answers == [True] * 6
    assert authenticator.calls == 1
    await authenticator.refresh_user(user)
    assert authenticator.calls == 2, "the next refresh asks again"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (HTTPClientError(503), True),
        (HTTPClientError(599), True),
        (ConnectionRefusedError(), True),
        (HTTPClientError(400), False),
        (False, False),
    ],
    ids=["503", "no answer in time", "no connection", "the token is worth nothing", "no state"],
)
async def test_a_silent_provider_logs_no_user_out(answer: Any, expected: bool) -> None:
    assert await make_authenticator(answer).refresh_user(make_user()) is expected


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"auth_time": -5}, True),
        ({"auth_time": FRESH_SECONDS - 5}, True),
        ({"auth_time": -FRESH_SECONDS - 5}, False),
        ({}, False),
        ({"auth_time": -5, "aud": "another client"}, False),
        ({"auth_time": -5, "exp": -60}, False),
    ],
    ids=["fresh", "clock", "an older log-in", "not said", "another client", "expired"],
)
async def test_a_log_in_is_a_confirmation_if_the_provider_proves_it(
    claims: dict[str, Any], expected: bool
) -> None:
    now = time.time()
    token = {"aud": "workbench", "exp": 3600, **claims}
    dated = {name: now + value if name != "aud" else value for name, value in token.items()}
    user = make_user(jwt.encode(dated, KEY))
    assert await make_authenticator().proves_password(user) is expected


async def test_without_an_id_token_nothing_is_proved() -> None:
    assert await make_authenticator().proves_password(make_user()) is False
