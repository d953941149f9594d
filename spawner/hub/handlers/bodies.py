"""Request bodies: check size, JSON and the type of every known field, for all of JupyterHub's REST API.

JupyterHub's handlers trust the types of the values in a body, so a body with a wrong type never reaches them. Server
options have a schema of their own, ``policy.options``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from jupyterhub.slugs import is_valid_display_name, is_valid_safe_slug

MAX_BYTES = 1024**2
MAX_DEPTH = 32
MAX_DIGITS = 18
MAX_SHOWN = 40
MAX_TOKEN_SECONDS = 10 * 365 * 24 * 3600
_TIME = re.compile(r"[12]\d{3}-\d\d-\d\d.{0,40}", re.ASCII)

Check = Callable[[object], bool]


class BodyError(ValueError):
    """A body that no handler may see; its text is one sentence for the sender."""


def read_body(raw: bytes) -> dict[str, Any] | None:
    """Return the JSON object in ``raw``, None where it is empty or null; raises BodyError."""
    if len(raw) > MAX_BYTES:
        raise BodyError(f"The body is too large: send at most {MAX_BYTES // 1024} KiB.")
    if not raw.strip():
        return None
    try:
        text = raw.decode()
        body = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_as_object)
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise BodyError("The body is not UTF-8: send JSON.") from None
    except UnicodeEncodeError:
        raise BodyError("The body has half of a surrogate pair: send Unicode text.") from None
    except BodyError:
        raise
    except (ValueError, RecursionError):
        raise BodyError("The body is not JSON within the limits: send a JSON object.") from None
    if body is None:
        return None
    if not isinstance(body, dict):
        raise BodyError("The body must be a JSON object.")
    _require_bounded(body, MAX_DEPTH)
    _require_types(body)
    return body


def require_server_name(name: str) -> None:
    """Raise BodyError unless ``name`` can be the name of a named server, which is part of its address."""
    if not is_valid_safe_slug(name):
        raise BodyError(
            f"{name[:MAX_SHOWN]!r} cannot be the name of a server: use 1 to 30 of a-z, 0-9 and single hyphens, "
            "beginning with a letter, and give any other text as its display_name."
        )


def require_display_name(name: str) -> None:
    """Raise BodyError unless ``name`` can be shown as the name of a server."""
    if not is_valid_display_name(name):
        raise BodyError(
            f"{name[:MAX_SHOWN]!r} cannot be shown as a server's name: use 1 to 255 printable characters with single "
            "spaces between them."
        )


def _refuse_constant(name: str) -> None:
    raise BodyError(f"{name} is no number: send a JSON number.")


def _as_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BodyError(f"{twice[:MAX_SHOWN]!r} is given twice: give it once.")
    return found


def _require_bounded(value: object, depth: int) -> None:
    if depth == 0:
        raise BodyError(f"The body is nested too deeply: at most {MAX_DEPTH} levels.")
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        for inner in value:
            _require_bounded(inner, depth - 1)
    elif type(value) is int and abs(value) >= 10**MAX_DIGITS:
        raise BodyError(f"A number is too large: at most {MAX_DIGITS} digits.")
    elif type(value) is float and value in (float("inf"), float("-inf")):
        raise BodyError("A number is too large: send a finite number.")


def _require_types(body: Mapping[str, object]) -> None:
    for key, value in body.items():
        if key in _TYPES:
            check, kind = _TYPES[key]
            if not check(value):
                raise BodyError(f"{key!r} must be {kind}.")


def _is(*kinds: type) -> Check:
    # bool is an int in Python
    return lambda value: type(value) in kinds


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_lifetime(value: object) -> bool:
    return value is None or (type(value) is int and 0 < value <= MAX_TOKEN_SECONDS)


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, str) and _TIME.fullmatch(value) is not None)


def _is_activity(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, dict) and _is_time(one.get("last_activity")) for one in value.values()
    )


_TEXT = (_is(str), "a text")
_TEXTS = (_is_texts, "a list of texts")
_NOTHING = type(None)
# a key has the same type in every body of JupyterHub's API
_TYPES: dict[str, tuple[Check, str]] = {
    "name": _TEXT,
    "display_name": _TEXT,
    "user_options": (_is(dict, _NOTHING), "an object or null"),
    "remove": (_is(bool), "true or false"),
    "admin": (_is(bool), "true or false"),
    "auth_state": (_is(dict, _NOTHING), "an object or null"),
    "usernames": _TEXTS,
    "users": _TEXTS,
    "groups": _TEXTS,
    "roles": (lambda value: value is None or _is_texts(value), "a list of texts or null"),
    "scopes": (lambda value: value is None or _is_texts(value), "a list of texts or null"),
    "user": (_is(str, _NOTHING), "a text or null"),
    "group": (_is(str, _NOTHING), "a text or null"),
    "code": (_is(str, _NOTHING), "a text or null"),
    "note": (_is(str, _NOTHING), "a text or null"),
    "auth": (_is(dict, _NOTHING), "an object or null"),
    "expires_in": (_is_lifetime, f"a whole number of seconds up to {MAX_TOKEN_SECONDS}, or null"),
    "last_activity": (_is_time, "a time such as 2026-11-23T14:30:00Z"),
    "servers": (_is_activity, "an object of servers, each with its last_activity"),
}
