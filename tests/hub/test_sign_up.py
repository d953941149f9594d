"""Sign-up, approval, log-in: only an admin's approval lets a user in, and no link can approve for them."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bcrypt
import httpx
import pytest
import sqlalchemy as sa
from nativeauthenticator.orm import UserInfo
from sqlalchemy.orm import Session

from spawner.hub.approval import WRONG_PASSWORDS_OF_NAME
from spawner.hub.first_admin import create_admin
from spawner.model import SettingsError
from tests.hub.accounts import ADMIN_PASSWORD, admin, database, join, press, sign_up
from tests.hub.hub_env import PASSWORD, HubEnvironment, log_in, xsrf_of
from tests.hub.pages import one, parse


async def change_password(
    browser: httpx.AsyncClient, old: str, new: str, again: str | None = None
) -> str:
    """Change it on the page and return what that says."""
    page = await browser.get("/hub/change-password")
    form = {
        "old_password": old,
        "new_password": new,
        "new_password_confirmation": new if again is None else again,
        "_xsrf": xsrf_of(page.text),
    }
    answer = await browser.post("/hub/change-password", data=form)
    said: str = one(parse(answer.text), "[role=alert]").text
    return said


async def test_a_newcomer_is_let_in_only_after_an_admin_approved(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        thanks = await sign_up(browser, "alice")
        assert "Waiting for an admin" in thanks.text
        refused = await log_in(browser, "alice")
        assert refused.status_code == 403
        assert "An admin has not approved your account yet" in refused.text
        assert "alice" in (await approver.get("/hub/people")).text
        await press(approver, "approve", "alice")
        accepted = await log_in(browser, "alice")
        assert accepted.status_code == 302
        home = await browser.get("/hub/home")
    assert "holds no GPU" in home.text


async def test_a_wrong_password_states_nothing_about_the_account(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await sign_up(browser, "alice")
        known = await log_in(browser, "alice", "wrong")
        unknown = await log_in(browser, "nobody", "wrong")
    assert known.status_code == unknown.status_code == 403
    assert "Invalid username or password" in known.text
    assert "approve" not in known.text


@pytest.mark.parametrize("verb", ["approve", "decline"])
async def test_an_admin_who_follows_a_link_decides_nothing(
    hub_env: HubEnvironment, verb: str
) -> None:
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        await sign_up(browser, "mallory")
        followed = await approver.get(f"/hub/people/mallory/{verb}")
        assert followed.headers["Location"] == "/hub/people/mallory"
        forged = await approver.post(f"/hub/people/mallory/{verb}")
        assert forged.status_code == 403
        assert "mallory" in (await approver.get("/hub/people")).text
        assert (await log_in(browser, "mallory")).status_code == 403


async def test_a_sign_up_can_be_discarded(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        await sign_up(browser, "alice")
        assert (await press(approver, "decline", "alice")).status_code == 302
        assert "alice" not in (await approver.get("/hub/people")).text
        assert (await press(approver, "approve", "alice")).status_code == 404


async def test_only_admins_see_who_waits(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        assert (await browser.get("/hub/people")).status_code == 403
        assert "/hub/people" not in (await browser.get("/hub/home")).text


@pytest.mark.parametrize(
    "name", ["admin", "Admin", "a b", "<script>", "-x", "a/b", "x" * 65, "é", "a\n"]
)
async def test_names_that_no_one_can_sign_up_as(hub_env: HubEnvironment, name: str) -> None:
    async with hub_env.browser() as browser:
        answer = await sign_up(browser, name)
    assert "Waiting for an admin" not in answer.text
    assert hub_env.hub.db.query(UserInfo).count() == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "josé",
            "the letters a to z only, so that no two names look alike: replace é",
        ),
        ("аda", "replace а"),  # noqa: RUF001 - Cyrillic
        ("李", "replace 李"),
        ("a b", "no blanks"),
        ("a/b", "replace /"),
        ("-x", "begins with a letter or a digit, not with -"),
        ("x" * 65, "has 65 characters"),
        ("", "Type a username"),
        ("admin", "is taken"),
    ],
)
async def test_a_refused_name_has_its_true_reason_at_its_field(
    hub_env: HubEnvironment, name: str, reason: str
) -> None:
    async with hub_env.browser() as browser:
        answer = await sign_up(browser, name)
    page = parse(answer.text)
    assert reason in one(page, "#username_hint.invalid-feedback").text
    assert one(page, "#username_input")["value"] == name


async def test_a_name_that_begins_with_a_digit_works(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "1st.year")
        assert (await browser.get("/hub/home")).status_code == 200


async def state_of(browser: httpx.AsyncClient) -> str:
    return str((await browser.get("/hub/signup/state")).json()["state"])


async def test_the_waiting_page_opens_the_workbench_after_the_approval(
    hub_env: HubEnvironment,
) -> None:
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        page = await sign_up(browser, "alice")
        assert page.url.path == "/hub/signup/waiting"
        assert "Every admin sees it" in page.text
        assert await state_of(browser) == "waiting"
        assert (await browser.get("/hub/home")).status_code == 302, "not logged in"
        await press(approver, "approve", "alice")
        assert await state_of(browser) == "approved"
        opened = await browser.get("/hub/signup/waiting")
        assert opened.status_code == 302
        assert "/hub/login" not in opened.headers["location"]
        assert (await browser.get("/hub/home")).status_code == 200
        assert await state_of(browser) == "gone", "it opens once"


async def test_the_waiting_page_ends_with_a_refusal(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser, admin(hub_env) as approver:
        await sign_up(browser, "alice")
        await press(approver, "decline", "alice")
        assert await state_of(browser) == "gone"
        # another person signs up with the name and is approved: the first browser gets nothing
        async with hub_env.browser() as another:
            await sign_up(another, "alice", "quite-another-person")
            await press(approver, "approve", "alice")
            assert await state_of(another) == "approved"
        assert await state_of(browser) == "gone"
        assert "No sign-up waits here" in (await browser.get("/hub/signup/waiting")).text


@pytest.mark.parametrize("cookie", ["alice:", "alice:0", "", "2|1:0|10:1"])
async def test_a_forged_sign_up_opens_nothing(hub_env: HubEnvironment, cookie: str) -> None:
    async with hub_env.browser() as browser, hub_env.browser() as forger:
        await join(hub_env, browser, "alice")
        forger.cookies.set("workbench-sign-up", cookie)
        assert await state_of(forger) == "gone"
        form = {"username": "alice", "proof": "alice", "_xsrf": ""}
        page = await forger.get("/hub/login")
        form["_xsrf"] = xsrf_of(page.text)
        assert (await forger.post("/hub/login", data=form)).status_code == 400


@pytest.mark.parametrize(
    "password", ["short", "password1", "workbench", " " * 8, "alice-alice", "alice1234"]
)
async def test_passwords_that_are_too_weak(hub_env: HubEnvironment, password: str) -> None:
    async with hub_env.browser() as browser:
        answer = await sign_up(browser, "alice", password)
    assert answer.status_code == 400
    page = parse(answer.text)
    assert "password" in one(page, "#password_hint.invalid-feedback").text.lower()
    assert one(page, "#username_input")["value"] == "alice"
    assert hub_env.hub.db.query(UserInfo).count() == 0


async def test_a_password_that_bcrypt_cannot_read_is_refused_in_a_sentence(
    hub_env: HubEnvironment,
) -> None:
    endless = "é" * 37
    async with hub_env.browser() as browser:
        answer = await sign_up(browser, "alice", endless)
        assert answer.status_code == 400
        assert "at most 72 bytes" in answer.text
        assert hub_env.hub.db.query(UserInfo).count() == 0
        await join(hub_env, browser, "alice")
        page = await browser.get("/hub/change-password")
        for old, new in ((PASSWORD, endless), (endless, PASSWORD)):
            form = {"old_password": old, "new_password": new, "new_password_confirmation": new}
            changed = await browser.post(
                "/hub/change-password", data={**form, "_xsrf": xsrf_of(page.text)}
            )
            assert changed.status_code == 400
    async with hub_env.browser() as browser:
        assert (await log_in(browser, "alice", endless)).status_code == 403
        assert (await log_in(browser, "alice")).status_code == 302


async def test_passwords_are_hashed_and_compared_once_and_off_the_event_loop(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    threads: set[str] = set()

    def note(name: str, compute: Callable[..., object], *words: bytes) -> object:
        done.append(name)
        threads.add(threading.current_thread().name.partition("_")[0])
        return compute(*words)

    async with admin(hub_env) as approver, hub_env.browser() as browser:
        for name in ("hashpw", "checkpw"):
            monkeypatch.setattr(bcrypt, name, partial(note, name, getattr(bcrypt, name)))
        await sign_up(browser, "alice")
        await press(approver, "approve", "alice")
        assert (await log_in(browser, "alice")).status_code == 302
        await change_password(browser, PASSWORD, "another long password")
    assert done == ["hashpw", "checkpw", "checkpw", "hashpw"]
    assert threads == {"bcrypt"}, "a pool of its own"


async def test_a_changed_password_is_the_one_that_lets_in(hub_env: HubEnvironment) -> None:
    another = "another long password"
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        for old, new, again, said in (
            ("wrong", another, another, "The current password is not correct"),
            (PASSWORD, another, "other", "The two new passwords differ"),
            (PASSWORD, "short", "short", "A password has at least 8 characters"),
            (PASSWORD, "alice-alice", "alice-alice", "This password is easy to guess"),
            (PASSWORD, " " * 8, " " * 8, "Type a password that is not blank"),
        ):
            assert said in await change_password(browser, old, new, again)
        async with hub_env.browser() as elsewhere:
            assert (await log_in(elsewhere, "alice")).status_code == 302
        assert "is changed" in await change_password(browser, PASSWORD, another)
        async with hub_env.browser() as elsewhere:
            assert (await log_in(elsewhere, "alice")).status_code == 403
            assert (await log_in(elsewhere, "alice", another)).status_code == 302


async def test_an_admin_gives_another_user_another_password(hub_env: HubEnvironment) -> None:
    another = "another long password"
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
    async with admin(hub_env) as keeper, hub_env.browser() as browser:
        page = await keeper.get("/hub/change-password/alice")
        form = {"new_password": another, "new_password_confirmation": another}
        await keeper.post("/hub/change-password/alice", data={**form, "_xsrf": xsrf_of(page.text)})
        assert (await log_in(browser, "alice", another)).status_code == 302


async def test_guessing_is_slowed_down(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
    async with hub_env.browser() as guesser:
        for _ in range(WRONG_PASSWORDS_OF_NAME):
            assert (await log_in(guesser, "alice", "wrong")).status_code == 403
        locked = await log_in(guesser, "alice")
    assert locked.status_code == 429
    assert "Too many wrong passwords: try again in a minute." in locked.text
    assert 1 <= int(locked.headers["Retry-After"]) <= 61


def test_the_first_admin_is_made_once(hub_env: HubEnvironment) -> None:
    assert create_admin(database(hub_env), "admin", ADMIN_PASSWORD)
    assert not create_admin(database(hub_env), "admin", "another password")
    engine = sa.create_engine(database(hub_env))
    with Session(engine) as session:
        info = UserInfo.find(session, "admin")
        assert info.is_authorized
        assert info.is_valid_password(ADMIN_PASSWORD)
    engine.dispose()


def test_the_first_admin_needs_a_hub_and_a_password(tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path}/new.sqlite"
    with pytest.raises(SettingsError, match="has not started"):
        create_admin(nowhere, "admin", ADMIN_PASSWORD)
    with pytest.raises(SettingsError, match="8 characters"):
        create_admin(nowhere, "admin", "short")
