"""Cookies and headers of the hub, and the confirmation of orders over others."""

from dataclasses import replace

import httpx
import pytest

from spawner.hub.confirmation import COOKIE, HEADER, has_rights_over_others
from spawner.ledger.trail import TrailAction, TrailFilter
from spawner.settings import Settings
from tests.hub.accounts import ADMIN_PASSWORD, admin, join, press, sign_up
from tests.hub.hub_env import HubEnvironment, log_in, xsrf_of

SCRIPT = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}


def set_cookies(answer: httpx.Response) -> dict[str, str]:
    """Return each cookie that an answer sets, by name."""
    return {c.partition("=")[0]: c for c in answer.headers.get_list("set-cookie")}


async def test_cookies_by_http(hub_env: HubEnvironment) -> None:
    async with admin(hub_env), hub_env.browser() as browser:
        cookies = set_cookies(await log_in(browser, "admin", ADMIN_PASSWORD))
        assert {"jupyterhub-hub-login", "jupyterhub-session-id", "_xsrf", COOKIE} == set(cookies)
        for name, cookie in cookies.items():
            assert "SameSite=Lax" in cookie, name
            assert "HttpOnly" in cookie
            assert "Secure" not in cookie


class TestByHttps:
    """The hub behind TLS, with a host name for each user."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, public_url="https://lab.test", user_domains=True)

    async def test_cookies_are_secure(self, hub_env: HubEnvironment) -> None:
        async with hub_env.browser() as browser:
            page = await browser.get("/hub/login")
            assert (
                "form-action 'self' https://*.lab.test;" in page.headers["content-security-policy"]
            )
            assert all("Secure" in cookie for cookie in set_cookies(page).values())
        assert hub_env.hub.hub.cookie_name == "__Host-jupyterhub-hub-login"


async def test_an_order_without_the_password_is_refused(hub_env: HubEnvironment) -> None:
    async with admin(hub_env) as browser:
        await sign_up(hub_env.browser(), "alice")
        page = await browser.get("/hub/people/alice")
        xsrf = xsrf_of(page.text)
        browser.cookies.delete(COOKIE)
        refused = await browser.post(
            "/hub/people/alice/approve",
            data={"_xsrf": xsrf},
            headers={"Referer": f"{hub_env.url}/hub/people?page=2"},
        )
        assert (refused.status_code, refused.headers["Location"]) == (
            303,
            "/hub/confirm?next=%2Fhub%2Fpeople%3Fpage%3D2",
        )
        quota = {"max_gpus": 1}
        headers = {"X-XSRFToken": xsrf}
        path = "/hub/api/workbench/quotas/default"
        refused = await browser.put(path, json=quota, headers=headers)
        assert (refused.status_code, refused.headers[HEADER]) == (403, "/hub/confirm")
        form = {"_xsrf": xsrf, "password": ADMIN_PASSWORD, "next": "/hub/people/alice"}
        wrong = await browser.post("/hub/confirm", data={**form, "password": "a guess"})
        assert wrong.status_code == 403
        assert (await browser.put(path, json=quota, headers=headers)).status_code == 403
        right = await browser.post("/hub/confirm", data=form)
        assert right.headers["Location"] == "/hub/people/alice"
        confirmed = [one.entry for one in hub_env.ledger.trail(TrailFilter(actor="admin"))]
        assert [one.action for one in confirmed].count(TrailAction.USER_CONFIRMED) == 1
        assert (await browser.put(path, json=quota, headers=headers)).is_success
        assert (await press(browser, "approve", "alice")).headers["Location"] != "/hub/confirm"


async def test_the_confirmation_belongs_to_its_session(hub_env: HubEnvironment) -> None:
    async with admin(hub_env) as browser, hub_env.browser() as other:
        await log_in(other, "admin", ADMIN_PASSWORD)
        value = browser.cookies[COOKIE]
        other.cookies.delete(COOKIE)
        other.cookies.set(COOKIE, value, path="/hub/", domain="127.0.0.1")
        answer = await other.get("/hub/token")
        assert answer.headers["Location"] == "/hub/confirm?next=%2Fhub%2Ftoken"


async def test_ones_own_things_need_no_confirmation(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        browser.cookies.delete(COOKIE)
        page = await browser.get("/hub/token")
        headers = {"X-XSRFToken": xsrf_of(page.text)}
        made = await browser.post("/hub/api/users/alice/tokens", json={}, headers=headers)
        assert made.status_code == 201


async def test_a_redirect_takes_no_token_along(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        token = xsrf_of((await browser.get("/hub/spawn")).text)
        answer = await browser.post(
            f"/hub/spawn/alice?_xsrf={token}&theme=dark", data={"_xsrf": token, "gpus": "0"}
        )
        assert answer.status_code == 302, answer.text
        assert token not in answer.headers["Location"]
        assert "theme=dark" in answer.headers["Location"]


@pytest.mark.parametrize(
    ("mode", "dest"),
    [("cors", "json"), ("cors", "text"), ("same-origin", "xslt"), ("no-cors", "empty")],
)
async def test_an_import_reads_no_page(hub_env: HubEnvironment, mode: str, dest: str) -> None:
    async with admin(hub_env) as browser:
        headers = {**SCRIPT, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        assert (await browser.get("/hub/home", headers=headers)).status_code == 403


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_script_without_token_reads_no_page(hub_env: HubEnvironment, method: str) -> None:
    async with admin(hub_env) as browser:
        refused = await browser.request(method, "/hub/home", headers=SCRIPT)
        assert (refused.status_code, refused.text) == (403, "Forbidden")
        token = xsrf_of((await browser.get("/hub/home")).text)
        read = await browser.get("/hub/home", headers={**SCRIPT, "X-XSRFToken": token})
        assert read.is_success


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("servers!user=alice", False),
        ("users:activity!server=alice/lab", False),
        ("read:users", False),
        ("list:groups", False),
        ("custom:workbench:read:trail", False),
        ("custom:workbench:leases", True),
        ("servers!group=lab", True),
        ("admin:users", True),
    ],
)
def test_rights_over_others(scope: str, expected: bool) -> None:
    assert has_rights_over_others({scope}, frozenset()) is expected
