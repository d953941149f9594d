"""Help pages and version: the users' documentation in the hub, and the product's version on every page."""

import tomllib

import pytest

from spawner import cli
from spawner.hub.views.help import PAGES, render_help_page
from testing.paths import ROOT
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import attribute, one, parse


async def test_a_user_reads_the_researchers_guide(hub_env: HubEnvironment) -> None:
    guide = (ROOT / "docs/researcher.md").read_text()
    headings = [line.lstrip("# ") for line in guide.splitlines() if line.startswith("#")]
    async with hub_env.browser() as browser:
        assert (await browser.get("/hub/help")).status_code == 302, "for users who are logged in"
        await join(hub_env, browser, "alice")
        answer = await browser.get("/hub/help")
        assert answer.status_code == 200
        page = parse(answer.text)
        shown = one(page, "#wb-help")
        assert [heading.text for heading in shown.select("h1, h2, h3")] == headings
        assert "Help" in [a.text for a in page.select('.navbar a[href="/hub/help"]')]
        for link in shown.select("a"):
            target = str(answer.url.join(attribute(link, "href")))
            assert (await browser.get(target)).status_code == 200, target


async def test_every_help_page_has_its_links_and_anchors(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        for name in PAGES[1:]:
            answer = await browser.get(f"/hub/help/{name}")
            assert answer.status_code == 200, name
            shown = one(parse(answer.text), "#wb-help")
            for link in shown.select("a"):
                href = attribute(link, "href")
                if href.startswith(("http:", "https:")):
                    continue
                url = answer.url.join(href)
                target = await browser.get(str(url))
                assert target.status_code == 200, href
                if url.fragment:
                    found = parse(target.text).find(id=url.fragment)
                    assert found is not None, href
        assert (await browser.get("/hub/help/admin")).status_code == 404, "not a page for users"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("<script>x()</script>", "&lt;script&gt;x()&lt;/script&gt;"),
        ("a <b>b</b>", "<p>a &lt;b&gt;b&lt;/b&gt;</p>\n"),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>\n"),
        ("[other](settings.md#a)", "<p>other</p>\n"),
        ("[code](../spawner/cli.py)", "<p>code</p>\n"),
        ("[rest](rest-api.md#a)", '<p><a href="help/rest-api#a">rest</a></p>\n'),
        ("[**bold** word](../LICENSE)", "<p><strong>bold</strong> word</p>\n"),
        ("![the *map*](images/gpus.png)", "<p>the *map*</p>\n"),
        (
            "[site](https://example.org/)",
            '<p><a href="https://example.org/" rel="noopener noreferrer">site</a></p>\n',
        ),
        ("| a |\n|---|\n| <i> |", "&lt;i&gt;"),
        ('## A "title"!', '<h2 id="a-title">A &quot;title&quot;!</h2>\n'),
    ],
)
def test_markdown_becomes_html_without_raw_html_or_dead_links(text: str, html: str) -> None:
    assert html in render_help_page("researcher", text).html


def test_a_page_links_to_its_neighbours() -> None:
    page = render_help_page("toolkit", "[start](researcher.md#get-in), [rest](rest-api.md)")
    assert '<a href="../help#get-in">start</a>, <a href="rest-api">rest</a>' in page.html


async def test_every_page_and_the_command_line_show_the_version(
    hub_env: HubEnvironment, capsys: pytest.CaptureFixture[str]
) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    async with hub_env.browser() as browser:
        pages = ["/hub/login", "/hub/signup", "/hub/nowhere"]
        shown = [parse((await browser.get(path)).text) for path in pages]
        await join(hub_env, browser, "alice")
        pages = ["/hub/home", "/hub/spawn", "/hub/gpus", "/hub/queue", "/hub/token", "/hub/help"]
        shown += [parse((await browser.get(path)).text) for path in pages]
    assert {one(page, ".wb-footer").text for page in shown} == {f"GPU Workbench {version}"}
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"workbench {version}\n")
