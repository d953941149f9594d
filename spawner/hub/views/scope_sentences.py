"""Scope sentences: say in plain words which rights a token or an application has, without the name of a scope."""

from __future__ import annotations

from collections.abc import Iterable

from jupyterhub.scopes import scope_definitions

_PLAIN = {
    "inherit": "Everything that you may do",
    "self": "See and change all that is yours",
    "access:servers": "Open a server",
    "access:services": "Open a service",
    "read:users": "See a user's name, groups and last activity",
    "read:users:name": "See a user's name",
    "read:users:groups": "See a user's groups",
    "read:users:activity": "See when a user was last active",
    "users:activity": "Report that a user is active",
    "servers": "Start and stop servers",
    "read:servers": "See servers",
    "tokens": "Make and revoke tokens",
    "read:tokens": "See tokens",
}
_OWN = {
    "a user's": "your",
    "a user is": "you are",
    "a user was": "you were",
    " servers": " your servers",
}
NOTHING = "Know your name"


def describe_scopes(me: str, scopes: Iterable[str]) -> tuple[str, ...]:
    """Return one sentence for each right that ``scopes`` give to ``me``, sorted, each once."""
    return tuple(sorted({_describe(me, scope) for scope in scopes})) or (NOTHING,)


def _describe(me: str, scope: str) -> str:
    name, _, limit = scope.partition("!")
    known = scope_definitions.get(name, {}).get("description", "A right of this workbench")
    sentence: str = _PLAIN.get(name, known).rstrip(".")
    kind, _, of = limit.partition("=")
    if kind == "user" and of in ("", me):
        for other, own in _OWN.items():
            sentence = sentence.replace(other, own)
        return sentence
    if kind == "server":
        owner, _, server = of.partition("/")
        whose = "yours" if owner in ("", me) else f"of {owner}"
        return f"{sentence} ({f'“{server}” ' if server else 'the default server '}{whose})"
    return f"{sentence} ({kind} {of})" if of else sentence
