"""Refusals: the reasons for a request without a prediction, each with its status code.

The reasons are the labels of ``wb_serve_errors_total``, so this list is complete.
"""

from __future__ import annotations

import enum


class Reason(enum.Enum):
    """The reasons of refusals and their status codes."""

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
        """The reason in answers and metrics."""
        return self.value[0]

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return self.value[1]


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request without a prediction, with a reason and a sentence."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
