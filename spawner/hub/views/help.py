"""Help pages: renders the users' part of the documentation from Markdown to HTML, once at hub start.

Raw HTML in a document is shown as text, and an image is replaced by its description. A link works if it leads to
another help page or to another site; any other link becomes plain text, because its file is not served.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from spawner.model import SettingsError

FRONT_PAGE = "researcher"
PAGES = (FRONT_PAGE, "toolkit", "rest-api", "troubleshooting")
"""The documents, by file name without suffix, that ``/hub/help`` serves."""
_EXTERNAL = re.compile(r"(https?://|mailto:)")


@dataclass(frozen=True)
class HelpPage:
    """One rendered document; ``title`` is its first heading, ``headings`` are all headings in order."""

    title: str
    headings: tuple[str, ...]
    html: Markup


def render_help_pages(docs: Path) -> dict[str, HelpPage]:
    """Return the help pages in the folder ``docs`` by name; raises SettingsError when one is missing."""
    pages = {}
    for name in PAGES:
        try:
            text = (docs / f"{name}.md").read_text(encoding="utf-8")
        except OSError as error:
            raise SettingsError(
                f"The help page {docs / name}.md cannot be read: {error.strerror}."
            ) from error
        pages[name] = render_help_page(name, text)
    return pages


def render_help_page(name: str, text: str) -> HelpPage:
    """Return the Markdown document ``text`` as the help page ``name``."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("table_open", _open_table)
    parser.add_render_rule("table_close", _close_table)
    tokens = parser.parse(text)
    headings = []
    for token, content in pairwise(tokens):
        if token.type == "heading_open":
            headings.append(_plain_text(content))
            token.attrSet("id", _slug(headings[-1]))
    for token in tokens:
        if token.children is not None:
            token.children = _rewrite_inline(name, token.children)
    html = parser.renderer.render(tokens, parser.options, {})
    # a block of code that scrolls sideways has to be reached by keyboard
    html = html.replace("<pre>", '<pre tabindex="0">')
    # Markdown without raw HTML escapes every text of the document
    return HelpPage(headings[0] if headings else name, tuple(headings), Markup(html))  # noqa: S704


def _rewrite_inline(page: str, tokens: Sequence[Token]) -> list[Token]:
    """Resolve links, remove those that lead nowhere, and replace images by their description."""
    rewritten: list[Token] = []
    is_kept: list[bool] = []  # for each open link
    for token in tokens:
        if token.type == "link_open":
            target = _resolve(page, str(token.attrGet("href") or ""))
            is_kept.append(target is not None)
            if target is None:
                continue
            token.attrSet("href", target)
            if _EXTERNAL.match(target):
                token.attrSet("rel", "noopener noreferrer")
        elif token.type == "link_close" and not is_kept.pop():
            continue
        elif token.type == "image":
            rewritten.append(Token("text", "", 0, content=token.content))
            continue
        rewritten.append(token)
    return rewritten


def _resolve(page: str, href: str) -> str | None:
    """Return where ``href`` in the document ``page`` leads below ``/hub/help``, None for a file that is not served."""
    if _EXTERNAL.match(href) or href.startswith("#"):
        return href
    path, mark, anchor = href.partition("#")
    name = path.removesuffix(".md")
    if name not in PAGES or name == path:
        return None
    if page == FRONT_PAGE:
        relative = "help" if name == FRONT_PAGE else f"help/{name}"
    else:
        relative = "../help" if name == FRONT_PAGE else name
    return f"{relative}{mark}{anchor}"


def _plain_text(inline: Token) -> str:
    return "".join(child.content for child in inline.children or ())


def _slug(heading: str) -> str:
    """Return the anchor that the documentation's own links use for ``heading``."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _open_table(*_: object) -> str:
    return '<div class="table-responsive"><table class="table">\n'


def _close_table(*_: object) -> str:
    return "</table></div>\n"
