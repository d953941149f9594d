"""Numbers as people say them, for the sentences that policies give."""

from __future__ import annotations


def count_gpus(number: int) -> str:
    """Return ``"1 GPU"``, ``"2 GPUs"``."""
    return f"{number} GPU" if number == 1 else f"{number} GPUs"


def say_hours(hours: float) -> str:
    """Return ``"1 hour"``, ``"24 hours"``, ``"1.5 hours"``; two decimals, cut off and not rounded up."""
    shown = f"{int(hours * 100) / 100:g}"
    return f"{shown} hour" if shown == "1" else f"{shown} hours"


def say_duration(seconds: float) -> str:
    """Return ``"under a minute"``, ``"12 min"``, ``"3 h 5 min"`` or ``"2 d 4 h"``."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "under a minute"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
