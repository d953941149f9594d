"""Spawn options: parses the user's choices for a server against a closed schema.

Form, query string, REST and persisted options all pass through ``parse_options``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from spawner.model import Options, OptionsError, StartMode, WhenIdle

MAX_GPUS = 1024
MIN_HOURS = 0.01
MAX_HOURS = 8760
MIG_PROFILE = re.compile(r"(?=.{1,32}$)([1-9]c\.)?[1-9]g\.[1-9][0-9]{0,3}gb([+-][a-z.]+)*")
"""NVIDIA's profile names, such as ``1g.10gb``, ``1c.3g.40gb`` and ``1g.10gb+me``."""
_KEYS = ("release", "gpus", "mig_profile", "hours", "when_idle", "start_mode")


def parse_options(raw: object, *, releases: Collection[str], default_release: str) -> Options:
    """Return the options in ``raw``: ``release``, ``gpus`` (int), ``mig_profile``, ``hours`` (number), ``when_idle``,
    ``start_mode``.

    Every key is optional, and the last four may be None. Raises OptionsError with one sentence for the user.
    """
    if not isinstance(raw, Mapping):
        raise OptionsError('The options must be an object such as {"release": "v2.7", "gpus": 1}.')
    unknown = sorted(str(key)[:40] for key in raw if key not in _KEYS)
    if unknown:
        raise OptionsError(
            f"{unknown[0]!r} is not an option of a server: choose only 'release', 'gpus', 'mig_profile', "
            "'hours', 'when_idle' and 'start_mode'."
        )
    release = raw.get("release", default_release)
    if not isinstance(release, str) or release not in releases:
        shown = release[:40] if isinstance(release, str) else type(release).__name__
        raise OptionsError(f"There is no release {shown!r}: choose one of {', '.join(releases)}.")
    gpus = raw.get("gpus", 0)
    # bool is a subclass of int, and a float such as NaN or 1.5 is not a count
    if type(gpus) is not int or not 0 <= gpus <= MAX_GPUS:
        raise OptionsError(
            f"{str(gpus)[:40]!r} is not a number of GPUs: give a whole number from 0 to {MAX_GPUS}."
        )
    return Options(
        release=release,
        gpus=gpus,
        hours=_parse_hours(raw.get("hours")),
        mig_profile=_parse_profile(raw.get("mig_profile"), gpus),
        when_idle=_parse_when_idle(raw.get("when_idle")),
        start_mode=_parse_start_mode(raw.get("start_mode")),
    )


def _parse_when_idle(choice: object) -> WhenIdle:
    if choice is None:
        return WhenIdle.STOP
    if not isinstance(choice, str) or choice not in set(WhenIdle):
        raise OptionsError(
            f"{str(choice)[:40]!r} is not an action for idle servers: choose 'stop' or 'go_on'."
        )
    return WhenIdle(choice)


def _parse_start_mode(choice: object) -> StartMode:
    if choice is None:
        return StartMode.NORMAL
    if not isinstance(choice, str) or choice not in set(StartMode):
        raise OptionsError(
            f"{str(choice)[:40]!r} is not a way to start: choose 'normal', 'without_packages' or 'repair'."
        )
    return StartMode(choice)


def _parse_profile(profile: object, gpus: int) -> str | None:
    if profile is None:
        return None
    if not isinstance(profile, str) or MIG_PROFILE.fullmatch(profile) is None:
        raise OptionsError(
            f"{str(profile)[:40]!r} is not a MIG profile: give one such as '1g.10gb', or none for whole GPUs."
        )
    if gpus == 0:
        raise OptionsError(
            f"The MIG profile {profile} needs a number of instances: set 'gpus' to 1 or more."
        )
    return profile


def _parse_hours(hours: object) -> float | None:
    if hours is None:
        return None
    # NaN and the infinities fail the comparison
    if type(hours) not in (int, float) or not MIN_HOURS <= hours <= MAX_HOURS:  # type: ignore[operator]
        raise OptionsError(
            f"{str(hours)[:40]!r} is not a number of hours: give a number from {MIN_HOURS} to {MAX_HOURS}."
        )
    return float(hours)  # type: ignore[arg-type]
