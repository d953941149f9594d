"""The workbench answers https itself, in a real Chromium: with a host for each user, then below a path.

The certificates are of an authority of the test's own. The tests are chapters of one story and run in order.
"""

import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Playwright, Response, expect

from testing.certificates import Authority, Pair
from testing.ports import free_port
from testing.stack import Stack, docker, run, run_up, running_stack
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.people import People, wait_for_lab

INSTANCE, HOST = "wbtls", "gpu.lab.test"
AUTHORITY = Authority()
PAIR = AUTHORITY.issue(HOST, f"*.{HOST}")


@dataclass(frozen=True)
class Front:
    """The certificate's files, and the ports of the workbench."""

    folder: Path
    https_port: int
    http_port: int

    def settings(
        self, path: str = "", *, pair: Pair = PAIR, user_domains: str = "no"
    ) -> dict[str, str]:
        """Return settings for a certificate and the path of the public URL."""
        (self.folder / "certificate.pem").write_bytes(pair.certificate)
        (self.folder / "key.pem").write_bytes(pair.key)
        return {
            "WORKBENCH_PUBLIC_URL": f"https://{HOST}:{self.https_port}{path}",
            "WORKBENCH_HTTP_PORT": str(self.http_port),
            "WORKBENCH_TLS": "files",
            "WORKBENCH_TLS_CERTIFICATE": f"{self.folder}/certificate.pem",
            "WORKBENCH_TLS_KEY": f"{self.folder}/key.pem",
            "WORKBENCH_USER_DOMAINS": user_domains,
        }


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Front:
    return Front(tmp_path_factory.mktemp("tls"), free_port(), free_port())


@pytest.fixture(scope="module")
def stack(front: Front) -> Iterator[Stack]:
    with running_stack(INSTANCE, 2, **front.settings(user_domains="yes")) as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    hosts = f"--host-resolver-rules=MAP *.{HOST} 127.0.0.1, MAP {HOST} 127.0.0.1"
    # it breaks all HTTP/2 connections whenever Docker makes a network, which other tests do
    flags = [*FLAGS, hosts, PAIR.chromium_flag, "--disable-http2"]
    with playwright.chromium.launch(executable_path=CHROMIUM, args=flags) as chromium:
        yield chromium


def answers_of(page: Page, pattern: str) -> list[Response]:
    """Return the list to which each later answer whose URL matches is added."""
    found: list[Response] = []
    page.on(
        "response", lambda answer: found.append(answer) if re.search(pattern, answer.url) else None
    )
    return found


def open_panel(page: Page) -> None:
    page.locator(".gpu-panel-Status").first.click()
    expect(page.locator(".gpu-panel-Panel")).to_contain_text("°C")


def container_ids() -> list[str]:
    return docker(
        "ps", "--quiet", "--filter", f"label=com.docker.compose.project={INSTANCE}"
    ).split()


def test_1_http_leads_to_https(people: People, front: Front, stack: Stack) -> None:
    page = people.page("admin")
    answer = page.goto(f"http://{HOST}:{front.http_port}/hub/login")
    assert answer is not None
    assert page.url == f"{stack.url}/hub/login"
    headers = answer.all_headers()
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert headers["content-encoding"] == "gzip"
    assert not {"server", "alt-svc"} & set(headers)
    people.log_in("admin", stack.admin_password)


def test_2_each_user_has_a_host_and_secure_cookies(people: People, stack: Stack) -> None:
    page = people.join("alice")
    scripts = answers_of(page, r"/user/alice/static/lab/.*\.js")
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    people.start("alice", gpus=2)
    wait_for_lab(page)
    origin = stack.url.replace("//", "//alice.")
    assert page.url.startswith(f"{origin}/user/alice/lab")
    open_panel(page)
    assert any(url.startswith(origin.replace("https", "wss")) for url in sockets)
    headers = [answer.all_headers() for answer in scripts]
    plain = [one["content-length"] for one in headers if "content-encoding" not in one]
    assert len(headers) > len(plain)
    assert all(int(length) < 1024 for length in plain)
    cookies = page.context.cookies()
    assert [cookie["name"] for cookie in cookies if not cookie["secure"]] == []
    assert "__Host-jupyterhub-hub-login" in {c["name"] for c in cookies if c["domain"] == HOST}
    page.screenshot(path=people.folder / "tls-lab.png")


def test_3_the_event_stream_of_the_waiting_page_is_not_held_back(people: People) -> None:
    page = people.join("bob")
    streams = answers_of(page, "/progress")
    people.start("bob", gpus=1)
    expect(page.locator("#wb-position")).to_have_text("1")
    (stream,) = streams
    headers = stream.all_headers()
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers
    page.locator("#stop-server-btn").click()
    page.wait_for_url(re.compile("/hub/(spawn|user)/bob"))


def test_4_http2_is_offered_and_the_hub_sees_the_client_and_not_its_claims(stack: Stack) -> None:
    gateway = docker(
        "network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", f"{INSTANCE}-tls"
    )
    port = stack.url.rpartition(":")[2]
    trust = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    trust.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", int(port))) as plain,
        trust.wrap_socket(plain, server_hostname=HOST) as encrypted,
    ):
        assert encrypted.selected_alpn_protocol() == "h2"
    trust.set_alpn_protocols(["http/1.1"])
    with httpx.Client(verify=trust) as client:
        answer = client.get(
            f"https://127.0.0.1:{port}/hub/login?claimed",
            headers={"Host": f"{HOST}:{port}", "X-Forwarded-For": "192.0.2.66"},
            extensions={"sni_hostname": HOST},
        )
    assert answer.is_success
    log = run("/usr/bin/docker", "logs", "--tail", "20", f"{INSTANCE}-hub-1")
    addresses = re.findall(r"GET /hub/login\?claimed \(.*@(\S+)\)", log.stdout + log.stderr)
    assert addresses == [gateway]


def test_5_an_expired_certificate_changes_nothing(front: Front, stack: Stack) -> None:
    before = container_ids()
    expired = AUTHORITY.issue(HOST, f"*.{HOST}", first_day=-9, last_day=-1)
    up, _ = run_up(INSTANCE, 2, **front.settings(pair=expired, user_domains="yes"))
    assert up.returncode == 2
    assert re.search(r"^error: The certificate .* expired on [^\n]+: renew it.\n$", up.stderr)
    assert container_ids() == before


def test_6_below_a_path_everything_works(people: People, front: Front, stack: Stack) -> None:
    docker("rm", "--force", *stack.containers("alice"))
    up, _ = run_up(INSTANCE, 2, **front.settings("/gpu"))
    assert up.returncode == 0, up.stderr
    below = People(people.browser, replace(stack, url=f"{stack.url}/gpu"), people.folder)
    page = below.log_in("alice")
    expect(page.get_by_role("heading", name="Start your server")).to_be_visible()
    below.start("alice", gpus=2)
    wait_for_lab(page)
    assert page.url.startswith(f"{stack.url}/gpu/user/alice/lab")
    open_panel(page)
    assert all(cookie["path"].startswith("/gpu/") for cookie in page.context.cookies())
    waiting = below.log_in("bob")
    below.start("bob", gpus=1)
    expect(waiting.locator("#wb-position")).to_have_text("1")
    assert waiting.url == f"{stack.url}/gpu/hub/spawn-pending/bob"
    below.shoot("bob", "tls-base-path-waiting")
    for place in ("gpus", "queue", "usage", "help", "home"):
        answer = waiting.goto(f"{stack.url}/gpu/hub/{place}")
        assert answer is not None
        assert answer.ok, place
    answer = waiting.goto(f"{stack.url}/")
    assert waiting.url.startswith(f"{stack.url}/gpu/hub/")
    health = waiting.goto(f"{stack.url}/gpu/hub/health")
    assert health is not None
    assert health.ok
