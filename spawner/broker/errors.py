"""How the broker says no.

A refusal never uses status 404, which is the daemon's alone to give: it is proof of absence.
"""

from __future__ import annotations


class BrokerError(Exception):  # noqa: N818
    """An answer of the broker's own: an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
