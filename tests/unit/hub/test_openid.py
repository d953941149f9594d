"""OpenID provider: a wrong setting is an error, a silent provider is not."""

import json

import pytest
from tornado.httpclient import HTTPError

from spawner.hub.openid import OpenIDProvider, ProviderSilent, is_silence, read_endpoints
from spawner.model import SettingsError
from testing.ports import free_port

ISSUER = "https://login.lab.example/realms/lab"
CONFIGURATION = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "userinfo_endpoint": f"{ISSUER}/userinfo",
}


def test_the_endpoints_are_those_of_the_provider() -> None:
    found = read_endpoints(ISSUER, json.dumps(CONFIGURATION).encode())
    assert found.token == f"{ISSUER}/token"
    assert found.end_session == ""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "has no usable configuration"),
        (b"[]", "has no usable configuration"),
        (json.dumps({"issuer": ISSUER}).encode(), "has no usable configuration"),
        (
            json.dumps({**CONFIGURATION, "issuer": "https://other.example"}).encode(),
            "calls itself https://other.example: set WORKBENCH_OAUTH_ISSUER to that",
        ),
    ],
)
def test_a_wrong_issuer_is_one_sentence(body: bytes, said: str) -> None:
    with pytest.raises(SettingsError, match=r"^[^\n]+\.$") as error:
        read_endpoints(ISSUER, body)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HTTPError(599), True),
        (HTTPError(503), True),
        (HTTPError(429), True),
        (ConnectionRefusedError(), True),
        (HTTPError(401), False),
        (HTTPError(400), False),
        (ValueError(), False),
    ],
)
def test_silence_states_nothing_about_a_user(error: Exception, expected: bool) -> None:
    assert is_silence(error) is expected


async def test_a_provider_that_is_away_is_silent() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ProviderSilent, match="does not answer, and running servers go on"):
        await OpenIDProvider(address).endpoints()
