"""How much somebody has used GPUs lately: GPU-hours that weigh half after each half-life.

What was used long ago is forgiven, so a place in line does not depend on last year. An hour of a MIG instance counts
as one of a GPU.
"""

from __future__ import annotations

import math

HALF_LIFE_HOURS = 168
"""The half-life where nobody sets another: a week."""


def decay(gpu_hours: float, seconds: float, half_life_hours: float) -> float:
    """Return what ``gpu_hours`` weigh ``seconds`` later."""
    # exp2 of a large negative number is 0.0, never an error; a negative time would be one for the clock
    return gpu_hours * math.exp2(-max(seconds, 0.0) / 3600.0 / half_life_hours)


def accrue(gpus: int, seconds: float, half_life_hours: float) -> float:
    """Return what ``gpus`` GPUs held for the last ``seconds`` weigh now: the integral of ``decay`` over that time."""
    held = max(seconds, 0.0) / 3600.0
    return gpus * half_life_hours / math.log(2) * -math.expm1(-math.log(2) * held / half_life_hours)
