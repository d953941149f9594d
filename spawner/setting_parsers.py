"""Setting parsers: turn the text of a setting into its value.

Each raises ValueError with what the text must be, such as "a whole number from 1 to 5".
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def parse_bytes(text: str) -> int:
    """Return the bytes of ``512M``, ``8G`` or ``1.5T`` (binary multiples); raises ValueError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGT])", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError("a size such as 512M, 8G or 1.5T")
    size = int(float(match[1]) * 1024 ** ("KMGT".index(match[2].upper()) + 1))
    if size <= 0:
        raise ValueError("a size above zero")
    return size


def integer(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from ``minimum`` to ``maximum``."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not minimum <= int(text) <= maximum:
            raise ValueError(f"a whole number from {minimum} to {maximum}")
        return int(text)

    return parse


def optional(parse: Callable[[str], _T]) -> Callable[[str], _T | None]:
    """Return a parser that takes an empty text for None."""
    return lambda text: parse(text) if text else None


def parse_cpus(text: str) -> float:
    """Return a number of CPUs above zero."""
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,2})?", text) or float(text) <= 0:
        raise ValueError("a number of CPUs such as 4 or 7.5")
    return float(text)


def parse_release_names(text: str) -> tuple[str, ...]:
    """Return names of releases, which blanks separate."""
    if not re.fullmatch(r"|v[0-9]+(\.[0-9]+)*( +v[0-9]+(\.[0-9]+)*)*", text):
        raise ValueError("release names such as v2.7 v2.15, separated by blanks")
    return tuple(text.split())


def parse_networks(text: str) -> tuple[str, ...]:
    """Return addresses and networks, which blanks separate."""
    try:
        return tuple(str(ipaddress.ip_network(part)) for part in text.split())
    except ValueError:
        raise ValueError(
            "addresses or networks such as 10.0.0.5 192.168.7.0/24, separated by blanks"
        ) from None


def parse_names(text: str) -> tuple[str, ...]:
    """Return names, such as of users or groups, separated by commas: a group's name may have blanks."""
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names):
        raise ValueError("names separated by commas")
    return tuple(names)


def parse_scopes(text: str) -> tuple[str, ...]:
    """Return scopes, which blanks separate; ``openid`` is among them."""
    if "openid" not in text.split():
        raise ValueError("scopes separated by blanks, with openid among them")
    return tuple(text.split())


def parse_issuer(text: str) -> str:
    """Return the URL of an OpenID provider without its last slash, empty for none."""
    if not re.fullmatch(
        r"|https://[^\s?#]+|http://(localhost|127\.[0-9.]+)(:[0-9]+)?(/[^\s?#]*)?", text
    ):
        raise ValueError(
            "the https URL of an OpenID provider, such as https://login.lab.example/realms/lab"
        )
    return text.rstrip("/")


def parse_yes_or_no(text: str) -> bool:
    """Return whether ``text`` is ``yes``."""
    if text not in ("yes", "no"):
        raise ValueError("yes or no")
    return text == "yes"


def parse_time_zone(text: str) -> str:
    """Return the name of a time zone, empty for UTC."""
    try:
        return zoneinfo.ZoneInfo(text).key if text else ""
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError("the name of a time zone such as Asia/Shanghai") from None


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser of ``words``."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{', '.join(words[:-1])} or {words[-1]}")
        return text

    return parse


def parse_public_url(text: str) -> str:
    """Return the URL of the workbench without its last slash, empty for none."""
    if not re.fullmatch(r"|https?://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9_-]+)*/?", text):
        raise ValueError("a URL such as https://gpu.lab.example or https://lab.example/gpu")
    return text.rstrip("/")


def matching(pattern: str, description: str) -> Callable[[str], str]:
    """Return a parser of texts that match ``pattern``; ``description`` completes "it must be"."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(description)
        return text

    return parse
