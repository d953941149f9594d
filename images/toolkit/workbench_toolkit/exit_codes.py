"""Exit codes: the codes with a meaning for ``wb train``; imports nothing."""

RESUME = 75
"""Stopped with a checkpoint, to be started again (EX_TEMPFAIL of sysexits.h)."""
