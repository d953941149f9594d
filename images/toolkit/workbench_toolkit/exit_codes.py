"""The exit code by which a run says that it wants to be started again; imports nothing."""

RESUME = 75
"""Stopped with a checkpoint, start me again (EX_TEMPFAIL of sysexits.h)."""
