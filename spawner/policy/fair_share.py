"""Fair share: computes recent GPU-hours with exponential decay.

The weight of a GPU-hour halves after each half-life, so old usage does not affect the queue order. An hour of a MIG
instance weighs as much as an hour of a GPU.
"""

from __future__ import annotations

import math

HALF_LIFE_HOURS = 168
"""Default half-life: one week."""


def decay(gpu_hours: float, seconds: float, half_life_hours: float) -> float:
    """Return the weight of ``gpu_hours`` after ``seconds``."""
    # exp2 of a large negative number is 0.0 without an error; a negative time means a clock error and counts as 0
    return gpu_hours * math.exp2(-max(seconds, 0.0) / 3600.0 / half_life_hours)


def accrue(gpus: int, seconds: float, half_life_hours: float) -> float:
    """Return the weight of ``gpus`` GPUs held for the last ``seconds``: the integral of ``decay`` over that time."""
    held = max(seconds, 0.0) / 3600.0
    return gpus * half_life_hours / math.log(2) * -math.expm1(-math.log(2) * held / half_life_hours)
