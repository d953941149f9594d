"""Whether a lease's GPUs have been doing nothing for so long that they are given back.

Only what was seen to be quiet counts: unknown never does, and any sign of work begins the time anew.
"""

from __future__ import annotations

from dataclasses import dataclass

FORGET_SECONDS = 600.0
"""After so long without knowing, nobody says that it was quiet before."""
STALE_SECONDS = 180.0
"""How old a server's word about its kernels and terminals may be."""
FINAL_REPORT_SECONDS = 30.0
"""How old it may be when its GPUs are taken: somebody may just have begun."""


@dataclass(frozen=True)
class IdleRules:
    """When a lease is idle; ``minutes`` 0 is never.

    Its user is warned ``warning_minutes`` before the end. A GPU that is busier than ``gpu_percent`` works; None is 0,
    but where the driver does not say how busy one is, the other signs decide. ``memory``, ``kernels`` and
    ``terminals`` say whether what GPU processes, kernels and terminals do are signs of work.
    """

    minutes: int
    warning_minutes: int
    gpu_percent: int | None
    memory: bool
    kernels: bool
    terminals: bool

    @property
    def has_criteria(self) -> bool:
        """False where no sign of work has to be known."""
        return self.gpu_percent is not None or self.memory or self.needs_report

    @property
    def needs_report(self) -> bool:
        """True where the server's own word is needed."""
        return self.kernels or self.terminals


@dataclass(frozen=True)
class ActivityReport:
    """What a server said of itself ``at`` a moment of the lease clock.

    How many kernels were computing, and how long ago the last one, and the last terminal, had done anything; None
    where it does not know.
    """

    at: float
    busy_kernels: int | None
    kernels_quiet_seconds: float | None
    terminals_quiet_seconds: float | None


Processes = frozenset[tuple[str, int, int | None]]
"""(GPU UUID, PID, bytes of its memory) of every process on the GPUs of a lease."""


@dataclass(frozen=True)
class Signs:
    """What is known of one lease ``at`` a moment of the lease clock.

    ``utilization_percent`` has one value for each GPU; None is unknown there, as for ``processes`` and ``word``.
    """

    at: float
    utilization_percent: tuple[int | None, ...]
    processes: Processes | None
    report: ActivityReport | None


@dataclass(frozen=True)
class IdleRecord:
    """What was seen of one lease until now.

    It was seen to be quiet for ``quiet_seconds`` together. ``known_at`` is the last look at which everything was
    known, None where the last one left something open; ``processes`` are the last ones known, ``reported_at`` is when its
    server spoke last.
    """

    quiet_seconds: float = 0.0
    known_at: float | None = None
    last_known_at: float | None = None
    processes: Processes | None = None
    reported_at: float | None = None


def update_record(before: IdleRecord, signs: Signs, rules: IdleRules, period_seconds: float) -> IdleRecord:
    """Return what is to be thought of a lease after one more look, ``period_seconds`` after the last."""
    is_known = _is_known(signs, rules)
    quiet = before.quiet_seconds
    if is_known and before.known_at is not None:
        gap = signs.at - before.known_at
        # looks that failed to happen saw nothing
        quiet += gap if 0 <= gap <= 3 * period_seconds else 0.0
    last = before.last_known_at
    if last is not None and signs.at - last > FORGET_SECONDS:
        quiet = 0.0
    if _is_working(before, signs, rules):
        quiet = 0.0
    processes = before.processes if signs.processes is None else signs.processes
    return IdleRecord(
        quiet_seconds=min(quiet, _rest_seconds(signs, rules)),
        known_at=signs.at if is_known else None,
        last_known_at=signs.at if is_known else last,
        processes=processes,
        reported_at=before.reported_at if signs.word is None else signs.report.at,
    )


def seconds_left(seen: IdleRecord, rules: IdleRules) -> float | None:
    """Return in how many seconds a lease that stays quiet ends, at least 0; None where it does not, or not soon."""
    if not rules.minutes:
        return None
    left = max(rules.minutes * 60.0 - seen.quiet_seconds, 0.0)
    return left if left <= min(rules.warning_minutes, rules.minutes) * 60.0 else None


def should_release(seen: IdleRecord, rules: IdleRules, now: float) -> bool:
    """Return whether a lease is to be ended now: it was quiet for long enough, and that is known up to this moment."""
    if seconds_left(seen, rules) != 0.0 or seen.known_at != now:
        return False
    has_spoken = seen.reported_at is not None and now - seen.reported_at <= FINAL_REPORT_SECONDS
    return has_spoken or not rules.needs_report


def _is_known(signs: Signs, rules: IdleRules) -> bool:
    if rules.gpu_percent is not None and None in signs.utilization_percent:
        return False
    if rules.memory and (
        signs.processes is None or any(memory is None for _, _, memory in signs.processes)
    ):
        return False
    word = signs.word
    if word is None or signs.at - report.at > STALE_SECONDS:
        return not rules.needs_report
    if rules.kernels and (report.busy_kernels is None or report.kernels_quiet_seconds is None):
        return False
    return not rules.terminals or report.terminals_quiet_seconds is not None


def _is_working(before: IdleRecord, signs: Signs, rules: IdleRules) -> bool:
    """Return whether anything that is looked at is seen to work, whatever else is unknown."""
    idle_percent = rules.gpu_percent or 0
    if any(percent > idle_percent for percent in signs.utilization_percent if percent is not None):
        return True
    has_changed = None not in (before.processes, signs.processes) and (
        before.processes != signs.processes
    )
    if rules.memory and has_changed:
        return True
    return rules.kernels and signs.word is not None and bool(signs.report.busy_kernels)


def _rest_seconds(signs: Signs, rules: IdleRules) -> float:
    """Return how long ago kernels and terminals had last done anything, as far as that is looked at and known."""
    word = signs.word
    if word is None:
        return float("inf")
    passed = max(signs.at - report.at, 0.0)
    kernels = report.kernels_quiet_seconds if rules.kernels else None
    terminals = report.terminals_quiet_seconds if rules.terminals else None
    return min(
        (quiet + passed for quiet in (kernels, terminals) if quiet is not None),
        default=float("inf"),
    )
