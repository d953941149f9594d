"""The log-in page: a stranger locks no one out, learns no names, and does not make others wait."""

import asyncio
import functools
import statistics
import threading
import time
from collections.abc import AsyncIterator

import bcrypt
import httpx
import pytest
from nativeauthenticator.orm import UserInfo

from spawner.hub import password_hashing
from spawner.hub.approval import (
    SIGN_UP_SECONDS,
    WRONG_PASSWORDS_OF_ADDRESS,
    WRONG_PASSWORDS_OF_NAME,
)
from spawner.hub.attempts import Attempts
from tests.hub.accounts import join, sign_up
from tests.hub.hub_env import HubEnvironment, log_in, xsrf_of

HASH_ROUNDS = 12
"""The product's own: a hash takes 0.25 s, the longest part of a request."""


def browser_at(hub_env: HubEnvironment, address: str) -> httpx.AsyncClient:
    """Return a browser that connects from ``address`` of the loopback network."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    return httpx.AsyncClient(base_url=hub_env.url, timeout=60, transport=transport)


@pytest.fixture
async def stranger(hub_env: HubEnvironment) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_at(hub_env, "127.0.0.66") as browser:
        yield browser


@pytest.fixture
async def owner(hub_env: HubEnvironment) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_at(hub_env, "127.0.0.7") as browser:
        await join(hub_env, browser, "alice")
        await browser.get("/hub/logout")
        yield browser


async def guess(browser: httpx.AsyncClient, name: str, **headers: str) -> httpx.Response:
    """Send a wrong password; the page for its form is asked for once in a browser."""
    token = xsrf_of((await browser.get("/hub/login", headers=headers)).text)
    form = {"username": name, "password": "wrong", "_xsrf": token}
    return await browser.post("/hub/login", data=form, headers=headers)


async def test_a_stranger_locks_only_themselves_out(
    stranger: httpx.AsyncClient, owner: httpx.AsyncClient
) -> None:
    said = [(await guess(stranger, "alice")).status_code for _ in range(11)]
    assert said == [403] * WRONG_PASSWORDS_OF_NAME + [429]
    assert (await log_in(stranger, "alice")).status_code == 429
    assert (await log_in(owner, "alice")).status_code == 302


async def test_many_guesses_at_the_same_moment_are_counted(
    stranger: httpx.AsyncClient, owner: httpx.AsyncClient
) -> None:
    del owner
    said = []
    for _ in range(6):
        answers = await asyncio.gather(*(guess(stranger, "alice") for _ in range(4)))
        said += [answer.status_code for answer in answers]
    assert said.count(403) <= WRONG_PASSWORDS_OF_NAME


async def test_an_address_that_tries_many_names_is_locked(
    stranger: httpx.AsyncClient, owner: httpx.AsyncClient
) -> None:
    for number in range(WRONG_PASSWORDS_OF_ADDRESS):
        assert (await guess(stranger, f"person{number}")).status_code == 403
    assert (await guess(stranger, "one-more")).status_code == 429
    assert (await log_in(owner, "alice")).status_code == 302


async def test_a_user_known_at_an_address_is_not_locked_with_it(
    stranger: httpx.AsyncClient, hub_env: HubEnvironment
) -> None:
    await join(hub_env, stranger, "alice")
    await stranger.get("/hub/logout")
    for number in range(WRONG_PASSWORDS_OF_ADDRESS):
        await guess(stranger, f"person{number}")
    assert (await guess(stranger, "person")).status_code == 429
    assert (await log_in(stranger, "alice")).status_code == 302
    await stranger.get("/hub/logout")
    assert (await guess(stranger, "person")).status_code == 429, "a log-in frees no guess"


async def test_only_our_own_proxy_names_the_client(
    hub_env: HubEnvironment, stranger: httpx.AsyncClient, owner: httpx.AsyncClient
) -> None:
    del owner
    headers = ({"X-Forwarded-For": f"10.0.0.{n}", "X-Real-Ip": f"10.0.0.{n}"} for n in range(11))
    said = [(await guess(stranger, "alice", **spoofed)).status_code for spoofed in headers]
    assert said[-1] == 429, "a header of the client's own is no other address"
    proxied = hub_env.hub.authenticator.client_addresses
    proxied._proxy_names, proxied._resolved_at = ("127.0.0.66",), -1e9
    forged = {"X-Forwarded-For": "10.9.9.9, 10.0.0.1"}
    said = [(await guess(stranger, "alice", **forged)).status_code for _ in range(11)]
    assert said == [403] * 10 + [429], "the proxy appends the true address"
    forged = {"X-Forwarded-For": "10.8.8.8, 10.0.0.1", "X-Real-Ip": "10.7.7.7"}
    assert (await guess(stranger, "alice", **forged)).status_code == 429
    assert (
        await guess(stranger, "alice", **{"X-Forwarded-For": "10.0.0.1, 10.0.0.2"})
    ).status_code == 403


async def test_malformed_log_ins_are_answered_without_a_hash(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = xsrf_of((await stranger.get("/hub/login")).text)
    hashed: list[bytes] = []

    def note(password: bytes, _: bytes) -> bool:
        hashed.append(password)
        return False

    monkeypatch.setattr(bcrypt, "checkpw", note)
    for form, status in (
        ({}, 400),
        ({"username": "alice"}, 400),
        ({"username": "alice", "password": ""}, 403),
        ({"username": "alice", "password": "x" * 73}, 403),
    ):
        answer = await stranger.post("/hub/login", data={**form, "_xsrf": token})
        assert answer.status_code == status, form
    assert hashed == []


@pytest.fixture
def slow_hashes(hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hashes take so long that their time shows."""
    gensalt = functools.partial(bcrypt.gensalt.func, HASH_ROUNDS)  # type: ignore[attr-defined]
    monkeypatch.setattr(bcrypt, "gensalt", gensalt)
    hub_env.hub.authenticator._dummy_hash = bcrypt.hashpw(b"", gensalt())


@pytest.mark.usefixtures("slow_hashes")
async def test_known_and_unknown_names_take_the_same_time(
    hub_env: HubEnvironment, owner: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    del owner
    monkeypatch.setattr(hub_env.hub.authenticator._wrong, "_most", 1000)
    monkeypatch.setattr(hub_env.hub.authenticator._wrong_for_name, "_most", 1000)
    seconds: dict[str, list[float]] = {"alice": [], "nobody": []}
    async with browser_at(hub_env, "127.0.0.66") as stranger:
        token = xsrf_of((await stranger.get("/hub/login")).text)
        for _ in range(9):
            for name, spent in seconds.items():
                began = time.perf_counter()
                form = {"username": name, "password": "wrong", "_xsrf": token}
                await stranger.post("/hub/login", data=form)
                spent.append(time.perf_counter() - began)
    ratio = statistics.median(seconds["alice"]) / statistics.median(seconds["nobody"])
    assert 0.7 < ratio < 1.4, seconds


@pytest.mark.usefixtures("slow_hashes")
@pytest.mark.parametrize("network", ["127.0.0.7", "127.0.1.1", "127.0.1.{}"])
async def test_a_flood_of_log_ins_does_not_make_a_colleague_wait(
    hub_env: HubEnvironment, owner: httpx.AsyncClient, network: str
) -> None:
    began = time.perf_counter()
    assert (await log_in(owner, "alice")).status_code == 302
    alone = time.perf_counter() - began
    await owner.get("/hub/logout")
    strangers = [browser_at(hub_env, network.format(n + 1)) for n in range(24)]
    tokens = [xsrf_of((await browser.get("/hub/login")).text) for browser in strangers]
    flood = [
        asyncio.create_task(
            browser.post(
                "/hub/login", data={"username": f"x{n}", "password": "wrong", "_xsrf": token}
            )
        )
        for n, (browser, token) in enumerate(zip(strangers, tokens, strict=True))
    ]
    await asyncio.sleep(0.05)
    began = time.perf_counter()
    assert (await log_in(owner, "alice")).status_code == 302
    meanwhile = time.perf_counter() - began
    answers = [answer.status_code for answer in await asyncio.gather(*flood)]
    assert set(answers) <= {403, 429}
    assert 429 in answers, "the queue is bounded"
    # one after another they would take 24 times as long
    assert meanwhile < 8 * alone, (meanwhile, alone)
    for stranger in strangers:
        await stranger.aclose()


async def test_sign_ups_are_limited_by_address(
    hub_env: HubEnvironment, stranger: httpx.AsyncClient
) -> None:
    hub_env.hub.authenticator._sign_ups = Attempts(3, SIGN_UP_SECONDS)
    for number in range(3):
        assert (await sign_up(stranger, f"person{number}")).status_code == 200
    refused = await sign_up(stranger, "one-more")
    assert refused.status_code == 429
    assert "Too many sign-ups from your network" in refused.text
    async with browser_at(hub_env, "127.0.0.8") as browser:
        assert (await sign_up(browser, "alice")).status_code == 200


async def test_names_that_are_taken_are_told_a_few_times_only(
    hub_env: HubEnvironment, stranger: httpx.AsyncClient
) -> None:
    hub_env.hub.authenticator._refused_names = Attempts(3, SIGN_UP_SECONDS)
    said = [(await sign_up(stranger, "admin")).status_code for _ in range(4)]
    assert said == [400, 400, 400, 429]


async def test_sign_ups_that_wait_are_capped(hub_env: HubEnvironment) -> None:
    hub_env.hub.authenticator.max_sign_ups = 3
    said = []
    for number in range(5):
        async with browser_at(hub_env, f"127.0.0.{10 + number}") as browser:
            said.append((await sign_up(browser, f"person{number}")).status_code)
    assert said == [200, 200, 200, 429, 429]
    assert hub_env.hub.db.query(UserInfo).count() == 3


async def test_at_most_a_few_hashes_run_at_once() -> None:
    hashing = password_hashing.PasswordHashing()
    running, most = set[str](), 0

    def compute(name: str) -> None:
        nonlocal most
        running.add(name)
        most = max(most, len(running))
        time.sleep(0.01)
        running.discard(name)

    names = [str(n) for n in range(password_hashing.MAX_WAITING)]
    await asyncio.gather(*(hashing.run(name, 0, compute, name) for name in names))
    assert 0 < most <= password_hashing.MAX_AT_ONCE


async def test_a_class_behind_one_address_logs_in_at_once() -> None:
    hashing = password_hashing.PasswordHashing()
    people = [hashing.run("school", 0, time.sleep, 0.001) for _ in range(12)]
    assert await asyncio.gather(*people) == [None] * 12


async def test_an_address_waits_in_a_short_queue_and_no_other_waits_for_it() -> None:
    hashing, may_end = password_hashing.PasswordHashing(), threading.Event()
    places = 1 + password_hashing.MAX_WAITING_PER_ADDRESS
    crowd = [asyncio.create_task(hashing.run("crowd", 0, may_end.wait, 30)) for _ in range(places)]
    await asyncio.sleep(0)
    with pytest.raises(password_hashing.TooBusyError):
        await hashing.run("crowd", 0, may_end.wait, 30)
    if password_hashing.MAX_AT_ONCE > 1:
        assert await hashing.run("colleague", 0, lambda: True)
    may_end.set()
    assert await asyncio.gather(*crowd) == [True] * places


async def test_when_many_addresses_wait_those_that_failed_most_are_refused() -> None:
    hashing, may_end = password_hashing.PasswordHashing(), threading.Event()
    places = password_hashing.MAX_AT_ONCE + password_hashing.MAX_WAITING
    crowd = [
        asyncio.create_task(hashing.run(f"stranger {n}", 5, may_end.wait, 30))
        for n in range(places)
    ]
    await asyncio.sleep(0)
    colleague = asyncio.create_task(hashing.run("colleague", 0, may_end.wait, 30))
    await asyncio.sleep(0)
    may_end.set()
    assert await colleague
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, password_hashing.TooBusyError)]
    assert len(refused) == 1
    assert answers[-1] is refused[0], "the latest of those that failed most"
