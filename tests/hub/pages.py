"""Pages: finds the one element that a test reads, and fails with the selector where the page has none."""

from bs4 import BeautifulSoup, Tag


def parse(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def one(page: Tag, selector: str) -> Tag:
    """Return the first element that ``selector`` names."""
    found = page.select_one(selector)
    assert found is not None, f"no {selector} in {page}"
    return found


def words(tag: Tag) -> str:
    """Return the text of ``tag`` with single spaces."""
    return " ".join(tag.text.split())


def attribute(tag: Tag, name: str) -> str:
    """Return an attribute that has one value."""
    value = tag[name]
    assert isinstance(value, str), f"{name}={value!r}"
    return value
