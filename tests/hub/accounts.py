"""Accounts: people sign up, an admin approves them, they log in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from spawner.hub.first_admin import create_admin
from tests.hub.hub_env import PASSWORD, HubEnvironment, log_in, xsrf_of

ADMIN_PASSWORD = "the-first-password"


def database(hub_env: HubEnvironment) -> str:
    return f"sqlite:///{hub_env.folder}/jupyterhub.sqlite"


async def sign_up(
    browser: httpx.AsyncClient, name: str, password: str = PASSWORD
) -> httpx.Response:
    page = await browser.get("/hub/signup")
    form = {
        "username": name,
        "signup_password": password,
        "signup_password_confirmation": password,
        "_xsrf": xsrf_of(page.text),
    }
    return await browser.post("/hub/signup", data=form, follow_redirects=True)


@asynccontextmanager
async def admin(hub_env: HubEnvironment) -> AsyncIterator[httpx.AsyncClient]:
    create_admin(database(hub_env), "admin", ADMIN_PASSWORD)
    async with hub_env.browser() as browser:
        answer = await log_in(browser, "admin", ADMIN_PASSWORD)
        assert answer.status_code == 302, answer.text
        yield browser


async def press(browser: httpx.AsyncClient, order: str, name: str, **fields: str) -> httpx.Response:
    """Send the form of an order over a person, such as "approve"."""
    page = await browser.get("/hub/people")
    form = {**fields, "_xsrf": xsrf_of(page.text)}
    return await browser.post(f"/hub/people/{name}/{order}", data=form)


async def join(hub_env: HubEnvironment, browser: httpx.AsyncClient, name: str) -> None:
    """Sign up, be approved, log in."""
    await sign_up(browser, name)
    async with admin(hub_env) as approver:
        assert (await press(approver, "approve", name)).status_code == 302
    answer = await log_in(browser, name)
    assert answer.status_code == 302, answer.text
