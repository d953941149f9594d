"""Credentials: everything by which one person reaches the hub, as copies that a thief may hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment, log_in, xsrf_of
from tests.hub.servers import start


def copy_of(hub_env: HubEnvironment, browser: httpx.AsyncClient) -> httpx.AsyncClient:
    """Return a second browser with the cookies of ``browser``, as a thief has them."""
    thief = hub_env.browser()
    for cookie in browser.cookies.jar:
        thief.cookies.jar.set_cookie(cookie)
    return thief


async def is_let_in(browser: httpx.AsyncClient) -> bool:
    """Return whether the home page is shown, instead of a redirect to the log-in page."""
    answer = await browser.get("/hub/home")
    assert answer.status_code in (HTTPStatus.OK, HTTPStatus.FOUND), answer.text
    return answer.status_code == HTTPStatus.OK


async def is_token_valid(hub_env: HubEnvironment, token: str) -> bool:
    """Return whether the hub names the user of ``token``, which is how JupyterLab checks one."""
    async with hub_env.browser() as client:
        answer = await client.get("/hub/api/user", headers={"Authorization": f"token {token}"})
    assert answer.status_code in (HTTPStatus.OK, HTTPStatus.FORBIDDEN), answer.text
    return answer.status_code == HTTPStatus.OK


def environment_of(hub_env: HubEnvironment, name: str) -> dict[str, str]:
    """Return the variables that the server's container of ``name`` was made with."""
    (lease,) = [lease for lease in hub_env.live() if lease.user == name]
    body: dict[str, Any] = hub_env.container(lease).body
    return dict(entry.split("=", 1) for entry in body["Env"])


async def request_code(browser: httpx.AsyncClient, name: str) -> str:
    """Return the OAuth code with which the browser is sent to the server of ``name``."""
    asked = {
        "client_id": f"jupyterhub-user-{name}",
        "redirect_uri": f"/user/{name}/oauth_callback",
        "response_type": "code",
    }
    answer = await browser.get("/hub/api/oauth2/authorize", params=asked)
    found = re.search(r"\?code=(\w+)", answer.headers.get("Location", ""))
    assert found, answer.text
    return found[1]


async def exchange(hub_env: HubEnvironment, name: str, code: str, secret: str) -> httpx.Response:
    """Exchange ``code`` for the browser's token, as the server of ``name`` does with its own ``secret``."""
    async with hub_env.browser() as server:
        return await server.post(
            "/hub/api/oauth2/token",
            data={
                "client_id": f"jupyterhub-user-{name}",
                "client_secret": secret,
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": f"/user/{name}/oauth_callback",
            },
        )


async def open_lab(hub_env: HubEnvironment, browser: httpx.AsyncClient, name: str) -> str:
    """Return the token with which JupyterLab of ``name`` recognizes ``browser`` from now on."""
    secret = environment_of(hub_env, name)["JUPYTERHUB_API_TOKEN"]
    answer = await exchange(hub_env, name, await request_code(browser, name), secret)
    assert answer.status_code == HTTPStatus.OK, answer.text
    token: str = answer.json()["access_token"]
    return token


@dataclass
class Credentials:
    """The credentials of alice: two browsers with JupyterLab, a server, a token, an open code."""

    hub_env: HubEnvironment
    browser: httpx.AsyncClient
    elsewhere: httpx.AsyncClient
    lab: str
    lab_elsewhere: str
    token: str
    server_token: str
    code: str

    async def valid(self) -> set[str]:
        """Return the names of those that still work; a code is tried once and then spent."""
        found = {
            "browser": await is_let_in(copy_of(self.hub_env, self.browser)),
            "elsewhere": await is_let_in(copy_of(self.hub_env, self.elsewhere)),
            "lab": await is_token_valid(self.hub_env, self.lab),
            "lab elsewhere": await is_token_valid(self.hub_env, self.lab_elsewhere),
            "token": await is_token_valid(self.hub_env, self.token),
            "server": await is_token_valid(self.hub_env, self.server_token),
            "code": (
                await exchange(self.hub_env, "alice", self.code, self.server_token)
            ).is_success,
        }
        return {name for name, is_valid in found.items() if is_valid}


EVERYTHING = {"browser", "elsewhere", "lab", "lab elsewhere", "token", "server", "code"}


async def make_credentials(
    hub_env: HubEnvironment, browser: httpx.AsyncClient, elsewhere: httpx.AsyncClient
) -> Credentials:
    """Let alice join, log in from two browsers, start a server with a GPU and open it."""
    await join(hub_env, browser, "alice")
    assert (await log_in(elsewhere, "alice")).status_code == HTTPStatus.FOUND
    token = hub_env.user("alice").new_api_token(note="Server at /user/alice/")
    assert await start(hub_env, "alice", {"gpus": 1}) == (201, "")
    return Credentials(
        hub_env,
        browser,
        elsewhere,
        lab=await open_lab(hub_env, browser, "alice"),
        lab_elsewhere=await open_lab(hub_env, elsewhere, "alice"),
        token=token,
        server_token=environment_of(hub_env, "alice")["JUPYTERHUB_API_TOKEN"],
        code=await request_code(elsewhere, "alice"),
    )


async def post(browser: httpx.AsyncClient, page: str, path: str, **fields: str) -> httpx.Response:
    """Send the form ``fields`` to ``path`` with the token of ``page``."""
    token = xsrf_of((await browser.get(page)).text)
    return await browser.post(path, data={**fields, "_xsrf": token})
