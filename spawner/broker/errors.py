"""Errors: defines the broker's own error answers.

None of them has status 404: only the daemon sends it, as proof of absence.
"""

from __future__ import annotations


class BrokerError(Exception):
    """An error answer of the broker itself: an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
