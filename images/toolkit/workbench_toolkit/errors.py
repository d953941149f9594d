"""The errors that end a command with one sentence instead of a traceback."""

from __future__ import annotations


class ToolError(Exception):
    """What was wrong and what to do, in one sentence; the command ends with exit code 2."""
