"""Idle policy: decides whether the GPUs of a lease were idle for so long that the hub releases them.

Only observed quiet time counts: unknown time never does, and any sign of work resets the count.
"""

from __future__ import annotations

from dataclasses import dataclass

FORGET_SECONDS = 600.0
"""Gap without complete knowledge after which the earlier quiet time no longer counts."""
STALE_SECONDS = 180.0
"""Maximum age of a server's activity report."""
FINAL_REPORT_SECONDS = 30.0
"""Maximum age of the activity report at the release: work may just have begun."""


@dataclass(frozen=True)
class IdleRules:
    """Criteria for an idle lease; ``minutes`` 0 disables the release.

    The user gets a warning ``warning_minutes`` before the release. A GPU above ``gpu_percent`` utilization works.
    ``gpu_percent`` None compares with 0, and an unknown utilization then leaves the decision to the other signs.
    ``memory``, ``kernels`` and ``terminals`` enable GPU processes, kernels and terminals as signs of work.
    """

    minutes: int
    warning_minutes: int
    gpu_percent: int | None
    memory: bool
    kernels: bool
    terminals: bool

    @property
    def has_criteria(self) -> bool:
        """False if the rules require no sign of work."""
        return self.gpu_percent is not None or self.memory or self.needs_report

    @property
    def needs_report(self) -> bool:
        """True if a decision needs the server's activity report."""
        return self.kernels or self.terminals


@dataclass(frozen=True)
class ActivityReport:
    """Report of a server about itself, received ``at`` a time of the lease clock.

    It has the number of computing kernels, and the quiet time of the last active kernel and terminal; None is unknown.
    """

    at: float
    busy_kernels: int | None
    kernels_quiet_seconds: float | None
    terminals_quiet_seconds: float | None


Processes = frozenset[tuple[str, int, int | None]]
"""(GPU UUID, PID, bytes of GPU memory) of every process on the GPUs of a lease."""


@dataclass(frozen=True)
class Signs:
    """Signs of work of one lease ``at`` a time of the lease clock.

    ``utilization_percent`` has one value for each GPU. None means unknown there, in ``processes`` and in ``report``.
    """

    at: float
    utilization_percent: tuple[int | None, ...]
    processes: Processes | None
    report: ActivityReport | None


@dataclass(frozen=True)
class IdleRecord:
    """Accumulated observations of one lease.

    ``quiet_seconds`` is the observed quiet time. ``known_at`` is the time of the last sample if that sample was
    complete, else None. ``last_known_at`` is the time of the last complete sample. ``processes`` are the last known
    ones, and ``reported_at`` is the time of the server's last report.
    """

    quiet_seconds: float = 0.0
    known_at: float | None = None
    last_known_at: float | None = None
    processes: Processes | None = None
    reported_at: float | None = None


def update_record(
    before: IdleRecord, signs: Signs, rules: IdleRules, period_seconds: float
) -> IdleRecord:
    """Return the record after one more sample; the sample period is ``period_seconds``."""
    is_known = _is_known(signs, rules)
    quiet = before.quiet_seconds
    if is_known and before.known_at is not None:
        gap = signs.at - before.known_at
        # a longer gap means missed samples, which observed nothing
        quiet += gap if 0 <= gap <= 3 * period_seconds else 0.0
    last = before.last_known_at
    if last is not None and signs.at - last > FORGET_SECONDS:
        quiet = 0.0
    if _is_working(before, signs, rules):
        quiet = 0.0
    processes = before.processes if signs.processes is None else signs.processes
    return IdleRecord(
        quiet_seconds=min(quiet, _reported_quiet_seconds(signs, rules)),
        known_at=signs.at if is_known else None,
        last_known_at=signs.at if is_known else last,
        processes=processes,
        reported_at=before.reported_at if signs.report is None else signs.report.at,
    )


def seconds_left(record: IdleRecord, rules: IdleRules) -> float | None:
    """Return the seconds until the release of a lease that stays quiet; None before the warning time."""
    if not rules.minutes:
        return None
    left = max(rules.minutes * 60.0 - record.quiet_seconds, 0.0)
    return left if left <= min(rules.warning_minutes, rules.minutes) * 60.0 else None


def should_release(record: IdleRecord, rules: IdleRules, now: float) -> bool:
    """Return whether the lease was quiet for long enough, with complete knowledge up to ``now``."""
    if seconds_left(record, rules) != 0.0 or record.known_at != now:
        return False
    is_report_fresh = (
        record.reported_at is not None and now - record.reported_at <= FINAL_REPORT_SECONDS
    )
    return is_report_fresh or not rules.needs_report


def _is_known(signs: Signs, rules: IdleRules) -> bool:
    """Return whether ``signs`` has every value that ``rules`` require."""
    if rules.gpu_percent is not None and None in signs.utilization_percent:
        return False
    if rules.memory and (
        signs.processes is None or any(memory is None for _, _, memory in signs.processes)
    ):
        return False
    report = signs.report
    if report is None or signs.at - report.at > STALE_SECONDS:
        return not rules.needs_report
    if rules.kernels and (report.busy_kernels is None or report.kernels_quiet_seconds is None):
        return False
    return not rules.terminals or report.terminals_quiet_seconds is not None


def _is_working(before: IdleRecord, signs: Signs, rules: IdleRules) -> bool:
    """Return whether any enabled sign shows work, even if other signs are unknown."""
    idle_percent = rules.gpu_percent or 0
    if any(percent > idle_percent for percent in signs.utilization_percent if percent is not None):
        return True
    has_changed = None not in (before.processes, signs.processes) and (
        before.processes != signs.processes
    )
    if rules.memory and has_changed:
        return True
    return rules.kernels and signs.report is not None and bool(signs.report.busy_kernels)


def _reported_quiet_seconds(signs: Signs, rules: IdleRules) -> float:
    """Return the quiet time of the last active kernel or terminal that counts; infinite if unknown."""
    report = signs.report
    if report is None:
        return float("inf")
    passed = max(signs.at - report.at, 0.0)
    kernels = report.kernels_quiet_seconds if rules.kernels else None
    terminals = report.terminals_quiet_seconds if rules.terminals else None
    return min(
        (quiet + passed for quiet in (kernels, terminals) if quiet is not None),
        default=float("inf"),
    )
