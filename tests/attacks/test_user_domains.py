"""With a host name for each user, a page of a user's server is of another origin than the hub's."""

from pathlib import Path

from tests.attacks.hostile_pages import PLANTED, SCRIPTS, attack, chromium, hostile_stack, log_in

HUB = "http://lab.test:8000"
MALLORY = "http://mallory.lab.test:8000"
ACROSS = """
    const answer = await fetch("http://lab.test:8000/hub/home", {credentials: "include"});
    return answer.ok;
"""
SAME_HOST = """
    const answers = await Promise.all(["/hub/home", "/hub/login", "/hub/api/"].map((path) => fetch(path)));
    return answers.some((answer) => answer.status !== 404);
"""


async def test_a_page_of_a_user_is_of_another_origin(tmp_path: Path) -> None:
    settings = {"PUBLIC_URL": HUB, "USER_DOMAINS": "yes"}
    names = "--host-resolver-rules=MAP *.lab.test 127.0.0.1, MAP lab.test 127.0.0.1"
    async with hostile_stack(tmp_path, **settings), chromium(names) as browser:
        page = await log_in(await browser.new_context(), url=HUB)
        assert 'user: "admin"' in await page.content()
        answer = await page.goto(f"{MALLORY}/user/mallory/evil")
        assert answer is not None
        assert page.url == f"{MALLORY}/user/mallory/evil"
        assert "hello" in await page.content()
        attacks = {**SCRIPTS, "across": ACROSS, "same host": SAME_HOST}
        found = {
            name for name, script in attacks.items() if await attack(page, script, url=MALLORY)
        }
        assert found == set()
        cookies = {c["name"]: c["domain"] for c in await page.context.cookies()}
        assert PLANTED not in cookies
        assert cookies["jupyterhub-hub-login"] == "lab.test"
