"""Why a request gets no prediction: a closed list of reasons, each with its status code.

The reasons are the labels of ``wb_serve_errors_total``, so there are never more of them than here.
"""

from __future__ import annotations

import enum


class Reason(enum.Enum):
    """What a refusal's ``reason`` can be, and its status code."""

    BODY = ("body", 400)
    TOKEN = ("token", 401)
    SIZE = ("size", 413)
    TYPE = ("content-type", 415)
    INPUT = ("input", 422)
    MODEL = ("model", 500)
    QUEUE = ("queue", 503)
    WORKER = ("worker", 503)
    TIMEOUT = ("timeout", 504)

    @property
    def word(self) -> str:
        """The reason as clients and metrics see it."""
        return self.value[0]

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return self.value[1]


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request that gets no prediction, and the sentence that says why."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
