"""Malformed bodies: requests that break the schema, and some that keep it; a seed repeats them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

JSON = {"Content-Type": "application/json"}
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
_SCALARS: list[Any] = [
    None, True, False, 0, 1, 2, 3, -1, 1024, 1025, 2**31, 2**63, 10**17, 10**18, 10**30, 0.5, 1.0, -0.0, 1e308, 5e-324,
    "", "0", "1", "1.0", "two", "v2.7", "V2.7", "v2.7 ", "v9", "\0", "\ud800", "\udfff", "é", "训练", "\u202e", "\x7f",
    "../..", "%2e%2e", "{{ 7 * 7 }}", "${HOME}", "<script>alert(1)</script>", "' OR 1=1 --", "a" * 5000, "%s%n", "null",
    "1g.10gb", "3g.40gb", "now", "2026-11-23T14:30:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
]  # fmt: skip
_KEYS = [
    "release", "gpus", "hours", "mig_profile", "user_options", "display_name", "name", "environment", "env", "image",
    "profile", "handler", "cmd", "args", "volumes", "mounts", "devices", "user", "uid", "network", "mem_limit", "token",
    "extra_host_config", "__proto__", "constructor", "__class__", "toString", "", "\0", "gpus ", "GPUS", "\ud83d",
    "remove", "admin", "groups", "roles", "auth_state", "state", "server", "servers", "scopes", "note", "expires_in",
    "last_activity", "usernames", "users", "properties", "auth", "code", "lease", "priority", "gpu_uuids", "epoch",
]  # fmt: skip
_RAW = [
    b"", b" ", b"null", b"[]", b"{", b"}", b"{}x", b'{"gpus": NaN}', b'{"gpus": Infinity}', b'{"hours": -Infinity}',
    b'{"gpus": 1e999}', b'{"hours": 1e999}', b'{"gpus": 01}', b"{'gpus': 1}", b'{"gpus": 1,}',
    b'{"gpus": 0, "gpus": 1}',
    b'{"user_options": {"gpus": 0}, "user_options": {"image": "x"}}', b'{"gpus": "\xff"}', b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}", b"\x00", b'{"\x00": 1}', b'{"gpus": "\x01"}', b"[" * 3000, b'{"a":' * 3000, b"9" * 5000,
    b'{"gpus": ' + b"9" * 5000 + b"}", b"[" + b"1," * 20000 + b"1]", b'"' + b"a" * 100_000 + b'"', b"true", b"7",
    b'"x"',
    b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", b"gpus=1", b"<xml/>", b'{"gpus": 1}{"gpus": 1}',
]  # fmt: skip
_CONTENT_TYPES = [
    "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
    "multipart/form-data; boundary=", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "é",
    "application/xml", "*/*",
]  # fmt: skip
_ODD_NAMES = [
    "%2F", "..%2F..", "%2e%2e", "%00", "%0a", "%ff", "%25", "A", "a_b", "a" * 31, "a" * 2000, "__proto__", "%C3%A9",
    "-a", "a--b", "a%20b", "%3Cb%3E", "1", "a.b", "%F0%9F%90%8D",
]  # fmt: skip


_NAMES = [
    "victim",
    "person0",
    "root",
    "newcomer",
    "nobody",
    "Big",
    "a b",
    "",
    "x" * 300,
    "\0",
    "é",
    "admin",
    "g",
]
_TIMES = [
    "2026-11-23T14:30:00Z",
    "9999-12-31T23:59:59-14:00",
    "1000-01-01T00:00:00+14:00",
    "2026-13-99",
    "2026-11-23",
]
# fields of JupyterHub's own handlers, of the type that they expect
_KNOWN: dict[str, list[Any]] = {
    "usernames": [[name] for name in _NAMES] + [[], ["newcomer", "newcomer"], _NAMES],
    "users": [[name] for name in _NAMES] + [[]],
    "groups": [[name] for name in _NAMES] + [[]],
    "roles": [[], ["admin"], ["nosuch"], None],
    "scopes": [[], ["self"], ["inherit"], ["nosuch"], ["access:servers!server=x"], ["!"], ["admin:users!user"], None],
    "expires_in": [1, 3600, 10 * 365 * 24 * 3600, 10**9, -1, None],
    "note": ["x", "\0", None], "name": _NAMES, "admin": [True, False], "remove": [True, False],
    "last_activity": _TIMES, "servers": [{"": {"last_activity": at}} for at in _TIMES] + [{"s9": {}}, {}],
    "display_name": _NAMES, "user": _NAMES, "group": _NAMES, "code": ["x"], "auth_state": [{}, None, {"a": 1}],
    "auth": [{"username": "x", "password": "y"}, {}, None], "properties": [{}, {"a": [1]}],
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One request below ``/hub/``; ``{me}`` is the sender, ``servers`` are those that it could start."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    servers: tuple[str, ...] = ()
    is_page: bool = False
    as_admin: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path[:200]} {self.headers} {self.body[:300]!r}"


class Cases:
    """A source of requests."""

    SERVERS: ClassVar[tuple[str, ...]] = ("s0", "s1", "s2", "s3", "s4", "s5")

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same ones again is what is wanted

    def take(self, count: int) -> Iterator[Case]:
        """Yield ``count`` requests."""
        doors = [
            (34, self._start), (8, self._describe), (8, self._describe_anew), (6, self._end), (20, self._form),
            (7, self._link), (4, self._token), (4, self._activity), (3, self._extend), (4, self._user),
            (6, self._other),
        ]  # fmt: skip
        weights = [weight for weight, _ in doors]
        for _ in range(count):
            (door,) = self._random.choices(doors, weights)
            yield door[1]()

    # --- routes

    def _start(self) -> Case:
        server, path = self._server()
        return Case("POST", path, self._body(), self._headers(), (server,) if server else ())

    def _describe(self) -> Case:
        return Case("PUT", self._server()[1], self._body(), self._headers())

    def _describe_anew(self) -> Case:
        return Case("PATCH", self._server()[1], self._body(), self._headers())

    def _end(self) -> Case:
        body = b'{"remove": true}' if self._random.random() < 0.5 else self._body()
        return Case("DELETE", self._server()[1], body, self._headers())

    def _form(self) -> Case:
        server = self._random.choice(["", "", "", "/s0", "/s1", f"/{self._odd_name()}"])
        servers = (server[1:],) if server[1:] in self.SERVERS else ()
        if self._random.random() < 0.15:
            headers = {"Content-Type": self._random.choice(_CONTENT_TYPES[:-3])}
            return Case(
                "POST", f"spawn/{{me}}{server}", self._raw(), headers, servers, is_page=True
            )
        fields = [(key, self._text(value)) for key, value in self._options().items()]
        if self._random.random() < 0.2:
            fields.append((self._text(self._random.choice(_KEYS)), self._text(self._scalar())))
        if fields and self._random.random() < 0.1:
            fields.append(self._random.choice(fields))
        body = urlencode(fields, errors="replace").encode()
        if self._random.random() < 0.05:
            body += b"&gpus=%ff&%80=1"
        return Case("POST", f"spawn/{{me}}{server}", body, URLENCODED, servers, is_page=True)

    def _link(self) -> Case:
        fields = [
            (f"{self._random.choice(['opt-', '', 'opt'])}{self._text(key)}", self._text(value))
            for key, value in self._options().items()
        ]
        query = urlencode(fields, errors="replace") or "opt-=1"
        if self._random.random() < 0.1:
            query += self._random.choice(
                ["&opt-gpus=%ff", "&display_name=%ff", "&next=//evil", "&next=%00"]
            )
        server = self._random.choice(["", "/s0", "/nosuch", f"/{self._odd_name()}"])
        return Case("GET", f"spawn/{{me}}{server}?{query}", is_page=True)

    def _token(self) -> Case:
        return Case("POST", "api/users/{me}/tokens", self._body(), self._headers())

    def _activity(self) -> Case:
        return Case("POST", "api/users/{me}/activity", self._body(), self._headers())

    def _extend(self) -> Case:
        return Case("POST", "api/workbench/server/lease", self._body(), self._headers())

    def _user(self) -> Case:
        method, path = self._random.choice(
            [
                ("PATCH", "api/users/victim"), ("PATCH", "api/users/nobody"), ("POST", f"api/users/{self._odd_name()}"),
                ("POST", "api/users"), ("DELETE", f"api/users/{self._odd_name()}"), ("PATCH", "api/users/{me}"),
            ]
        )  # fmt: skip
        return Case(method, path, self._body(), self._headers(), as_admin=path != "api/users/{me}")

    def _other(self) -> Case:
        path = self._random.choice(
            [
                "api/groups", "api/groups/g", "api/groups/g/users", "api/groups/g/properties", "api/users",
                "api/users/victim/tokens", "api/users/victim/activity", "api/users/victim/server",
                "api/users/victim/shared", "api/shares/victim/s0", "api/shares/{me}/s0", "api/share-codes/{me}/s0",
                "api/services/s", "api/workbench/gpus/GPU-0/release", "api/nowhere",
                "api/workbench/quotas", "api/workbench/quotas/default", "api/workbench/quotas/groups/g",
                f"api/workbench/quotas/users/{self._odd_name()}", "api/workbench/quotas/users/victim/effective",
            ]
        )  # fmt: skip
        method = self._random.choice(["POST", "PUT", "PATCH", "DELETE"])
        as_admin = "services" not in path and self._random.random() < 0.7
        return Case(method, path, self._body(), self._headers(), as_admin=as_admin)

    # --- what they carry

    def _server(self) -> tuple[str, str]:
        chance = self._random.random()
        if chance < 0.5:
            return "", "api/users/{me}/server"
        if chance < 0.85:
            server = self._random.choice(self.SERVERS)
            return server, f"api/users/{{me}}/servers/{server}"
        return "", f"api/users/{{me}}/servers/{self._odd_name()}"

    def _odd_name(self) -> str:
        if self._random.random() < 0.7:
            return self._random.choice(_ODD_NAMES)
        letters = "".join(
            chr(self._random.randrange(1, 0x2000)) for _ in range(self._random.randrange(1, 12))
        )
        return quote(letters, safe="")

    def _headers(self) -> dict[str, str]:
        if self._random.random() < 0.9:
            return JSON
        return {"Content-Type": self._random.choice(_CONTENT_TYPES[:-3])}

    def _body(self) -> bytes:
        if self._random.random() < 0.2:
            return self._raw()
        if self._random.random() < 0.15:
            keys = self._random.sample(sorted(_KNOWN), self._random.choice([1, 1, 2]))
            return json.dumps({key: self._random.choice(_KNOWN[key]) for key in keys}).encode()
        options: Any = self._options()
        shape = self._random.random()
        if shape < 0.35:
            options = {"user_options": options}
        elif shape < 0.5:
            options = {
                "user_options": options,
                "display_name": self._random.choice(["x", *_SCALARS]),
            }
        elif shape < 0.6:
            options = self._value(4)
        return json.dumps(options).encode()

    def _raw(self) -> bytes:
        if self._random.random() < 0.3:
            return self._random.randbytes(self._random.randrange(1, 200))
        whole = self._random.choice(_RAW)
        cut = self._random.random() < 0.1
        return whole[: self._random.randrange(len(whole) + 1)] if cut else whole

    def _options(self) -> dict[str, Any]:
        """Return options of the schema, mostly with something wrong."""
        options: dict[str, Any] = {"gpus": self._random.choice([0, 0, 1, 2])}
        if self._random.random() < 0.5:
            options["hours"] = self._random.choice([1, 0.5, 24])
        if self._random.random() < 0.3:
            options["release"] = "v2.7"
        if self._random.random() < 0.04:
            return options
        for _ in range(self._random.choice([1, 1, 2, 3])):
            key = self._random.choice(_KEYS[:4] if self._random.random() < 0.5 else _KEYS)
            options[key] = self._value(2)
        return options

    def _value(self, depth: int) -> Any:
        chance = self._random.random()
        if depth and chance < 0.12:
            return [self._value(depth - 1) for _ in range(self._random.randrange(4))]
        if depth and chance < 0.24:
            return {
                self._random.choice(_KEYS): self._value(depth - 1)
                for _ in range(self._random.randrange(4))
            }
        return self._scalar()

    def _scalar(self) -> Any:
        return self._random.choice(_SCALARS)

    def _text(self, value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value)
