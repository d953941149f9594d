"""Allowlist: matches a request against the closed list of requests that Docker may receive.

The request target is matched undecoded, as it was sent. A request that does not match a rule in full is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl

from spawner.broker.errors import BrokerError

_VERSION_PREFIX = r"(?:/v1\.[0-9]{1,3})?"
_NAME = r"(?P<subject>[A-Za-z0-9][A-Za-z0-9_.-]{0,127})"
_IMAGE_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.:@-]*[A-Za-z0-9])?"
_IMAGE = rf"(?P<subject>{_IMAGE_PART}(?:/{_IMAGE_PART}){{0,8}})"
_FLAG = "0|1|true|false"
_NO = "0|false"
_MAX_QUERY_FIELDS = 8


class Operation(Enum):
    """Every operation that a client may request."""

    PING = "ping"
    VERSION = "version"
    IMAGE = "image"
    LIST = "list"
    WATCH = "watch"
    VOLUME = "volume"
    HOMES = "homes"
    REMOVE_HOME = "remove_home"
    INSPECT = "inspect"
    LOG = "log"
    WAIT = "wait"
    STOP = "stop"
    REMOVE = "remove"
    CREATE = "create"
    START = "start"


CHANGING = frozenset({Operation.STOP, Operation.REMOVE, Operation.CREATE, Operation.START})
"""The operations on one container that change it."""


@dataclass(frozen=True)
class AllowedRequest:
    """A request that a rule allows; ``subject`` is the name or id of an image, container or volume, or ""."""

    operation: Operation
    subject: str
    query: Mapping[str, str]


@dataclass(frozen=True)
class _Rule:
    method: str
    path: re.Pattern[str]
    operation: Operation
    query: Mapping[str, re.Pattern[str]]


def _rule(method: str, path: str, operation: Operation, **query: str) -> _Rule:
    compiled = {name: re.compile(pattern) for name, pattern in query.items()}
    return _Rule(method, re.compile(_VERSION_PREFIX + path), operation, compiled)


_RULES = (
    _rule("GET", "/_ping", Operation.PING),
    _rule("GET", "/version", Operation.VERSION),
    _rule("GET", rf"/images/{_IMAGE}/json", Operation.IMAGE),
    _rule("GET", "/containers/json", Operation.LIST, all=_FLAG),
    _rule("GET", "/events", Operation.WATCH),
    _rule("GET", rf"/volumes/{_NAME}", Operation.VOLUME),
    _rule("GET", "/volumes", Operation.HOMES),
    _rule("DELETE", rf"/volumes/{_NAME}", Operation.REMOVE_HOME, force=_NO),
    _rule("GET", rf"/containers/{_NAME}/json", Operation.INSPECT),
    _rule(
        "GET",
        rf"/containers/{_NAME}/logs",
        Operation.LOG,
        stdout=_FLAG,
        stderr=_FLAG,
        follow=_NO,
        tail="[1-9][0-9]?|100",
    ),
    _rule("POST", rf"/containers/{_NAME}/wait", Operation.WAIT),
    _rule("POST", rf"/containers/{_NAME}/stop", Operation.STOP, t="[0-9]{1,3}"),
    _rule("DELETE", rf"/containers/{_NAME}", Operation.REMOVE),
    _rule("POST", "/containers/create", Operation.CREATE, name="[a-z0-9][a-z0-9-]{0,62}"),
    _rule("POST", rf"/containers/{_NAME}/start", Operation.START),
)


def match_request(method: str, target: str) -> AllowedRequest:
    """Return the request of a request line; raises BrokerError (403) if no rule allows it."""
    path, _, query = target.partition("?")
    for rule in _RULES:
        found = rule.path.fullmatch(path) if method == rule.method else None
        if found is not None:
            subject = found.groupdict().get("subject", "")
            allowed = AllowedRequest(rule.operation, subject, _match_query(rule, query))
            if allowed.operation is Operation.LOG and "tail" not in allowed.query:
                raise BrokerError(403, "The broker does not allow a log without a tail.")
            return allowed
    raise BrokerError(403, f"The broker does not allow {method} {path[:200]!r}.")


def _match_query(rule: _Rule, text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            max_num_fields=_MAX_QUERY_FIELDS,
        )
    except ValueError as error:
        raise BrokerError(
            403, f"The broker cannot read the query of {rule.operation.value}."
        ) from error
    query: dict[str, str] = {}
    for name, value in pairs:
        pattern = rule.query.get(name)
        if pattern is None or name in query or not pattern.fullmatch(value):
            raise BrokerError(
                403,
                f"The broker does not allow {name[:40]!r} in the query of {rule.operation.value}.",
            )
        query[name] = value
    return query
