"""The hub's pages in every state in which people meet them."""

import asyncio

from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment, xsrf_of
from tests.hub.pages import one, parse
from tests.hub.servers import start


async def test_everyone_meets_the_product_by_its_name(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        for path, title in (("login", "Log in"), ("signup", "Sign up"), ("nowhere", "Not found")):
            page = parse((await browser.get(f"/hub/{path}")).text)
            assert one(page, "title").text.strip() == f"{title} · GPU Workbench"
            assert "GPU Workbench" in one(page, ".navbar-brand").text


async def test_an_error_page_says_the_error_once_and_in_words(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        unknown = parse((await browser.get("/hub/nowhere")).text)
        refused = parse((await browser.get("/hub/audit")).text)
        missing = parse((await browser.get("/hub/spawn/alice/second")).text)
    assert one(unknown, ".error h1").text == one(missing, ".error h1").text == "Not found"
    assert "This page does not exist." in one(unknown, ".error p").text
    assert one(refused, ".error h1").text == "Not allowed"
    assert "scope" not in one(refused, ".error").text
    assert "alice has no server named 'second'" in one(missing, ".error p").text


async def test_home_shows_what_the_server_holds(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        assert "is not running and holds no GPU" in (await browser.get("/hub/home")).text
        await start(hub_env, "alice", {"gpus": 2})
        page = parse((await browser.get("/hub/home")).text)
    rows = [" ".join(row.text.split()) for row in page.select(".wb-gpus > li")]
    assert rows == [f"GPU {i} · NVIDIA A100-SXM4-80GB · 80 GiB simulated" for i in (0, 1)]
    assert page.select_one("#stop")
    assert one(page, "#start")["href"] == "/user/alice/"


async def test_home_of_a_server_without_gpus(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        await start(hub_env, "alice", {"gpus": 0})
        page = await browser.get("/hub/home")
    assert "No GPU." in page.text


async def test_a_pending_start_and_a_pending_stop_have_pages(hub_env: HubEnvironment) -> None:
    hub_env.servers.is_mute = True
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        form = await browser.get("/hub/spawn/alice")
        answer = await browser.post(
            f"/hub/spawn/alice?_xsrf={xsrf_of(form.text)}", data={"gpus": "1", "release": "v2.7"}
        )
        assert answer.status_code == 302
        pending = await browser.get("/hub/spawn-pending/alice")
        assert "Starting your server" in pending.text
        assert "/hub/api/users/alice/server/progress" in pending.text
        assert "It is starting" in (await browser.get("/hub/home")).text
        hub_env.servers.is_mute = False
        await eventually(lambda: hub_env.user("alice").spawner.ready, "the server is ready")
        hub_env.engine.plan("delete", *[Fault.ERROR] * 1000)
        async with hub_env.client("alice") as client:
            stopping = asyncio.create_task(client.delete("/hub/api/users/alice/server"))
            await eventually(lambda: hub_env.user("alice").spawner.pending == "stop", "it stops")
            assert "is stopping" in (await browser.get("/hub/spawn-pending/alice")).text
            assert "is stopping" in (await browser.get("/hub/home")).text
            hub_env.engine.forget()
            await stopping


async def test_a_failed_start_is_reported_where_it_was_awaited(hub_env: HubEnvironment) -> None:
    hub_env.engine.images.clear()
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        form = await browser.get("/hub/spawn/alice")
        answer = await browser.post(
            f"/hub/spawn/alice?_xsrf={xsrf_of(form.text)}", data={"gpus": "1", "release": "v2.7"}
        )
        assert answer.status_code == 500
        alert = one(parse(answer.text), ".alert-danger")
        assert "pytorch-cuda:v2.7" in alert.text
        late = parse((await browser.get("/hub/spawn-pending/alice")).text)
    assert "pytorch-cuda:v2.7" in one(late, "[role=alert]").text
    assert one(late, "#start")["href"] == "/hub/spawn/alice"
    assert "Back to the form" in late.text
