"""The closed schema of what a person may choose for a server.

Every door (form, query, REST, persisted options) goes through ``parse_options``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from spawner.model import Options, OptionsError

MOST_GPUS = 1024
_KEYS = ("release", "gpus")


def parse_options(raw: object, *, releases: Collection[str], default_release: str) -> Options:
    """Return the options in ``raw``, a mapping of ``release`` (str) and ``gpus`` (int), both optional.

    Raises OptionsError with one sentence for the person who asked.
    """
    if not isinstance(raw, Mapping):
        raise OptionsError('The options must be an object such as {"release": "v2.7", "gpus": 1}.')
    unknown = sorted(str(key)[:40] for key in raw if key not in _KEYS)
    if unknown:
        raise OptionsError(
            f"{unknown[0]!r} is not an option of a server: choose only 'release' and 'gpus'."
        )
    release = raw.get("release", default_release)
    if not isinstance(release, str) or release not in releases:
        shown = release[:40] if isinstance(release, str) else type(release).__name__
        raise OptionsError(f"There is no release {shown!r}: choose one of {', '.join(releases)}.")
    gpus = raw.get("gpus", 0)
    # bool is an int in Python, and a float such as NaN or 1.5 is no count
    if type(gpus) is not int or not 0 <= gpus <= MOST_GPUS:
        raise OptionsError(
            f"{str(gpus)[:40]!r} is no number of GPUs: give a whole number from 0 to {MOST_GPUS}."
        )
    return Options(release=release, gpus=gpus)
