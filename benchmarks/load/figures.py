"""Figures: one row for each thing that a part of the benchmark measures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Value = float | int | str | None


@dataclass(frozen=True)
class Row:
    """Figures by name, with their units in it; None is what did not come to be."""

    title: str
    figures: Mapping[str, Value]

    def __str__(self) -> str:
        """Return the row as a few lines of a table."""
        cells = (f"{name} {format_value(value)}" for name, value in self.figures.items())
        return "\n    ".join([f"  {self.title}", *cells])

    def as_json(self) -> dict[str, Value]:
        """Return the row with its title."""
        return {"title": self.title, **self.figures}


def format_value(value: Value) -> str:
    """Return a figure as people read it."""
    if value is None:
        return "-"
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and value < 100
        else f"{value:,}"
        if not isinstance(value, (float, str))
        else f"{value:,.0f}"
        if isinstance(value, float)
        else value
    )


def describe_times(name: str, seconds: Sequence[float]) -> dict[str, Value]:
    """Return how many there are, their median, 95th percentile and worst."""
    if not seconds:
        return {f"{name}_count": 0}
    ranked = sorted(seconds)
    return {
        f"{name}_count": len(ranked),
        f"{name}_p50_seconds": statistics.median(ranked),
        f"{name}_p95_seconds": ranked[min(int(len(ranked) * 0.95), len(ranked) - 1)],
        f"{name}_worst_seconds": ranked[-1],
    }


def times_of(visits: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """Return the times of everyone who came so far."""
    return [visit[key] for visit in visits if visit[key] is not None]
