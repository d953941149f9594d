"""Errors: exceptions that end a command with one sentence instead of a traceback."""

from __future__ import annotations


class ToolError(Exception):
    """One sentence with the problem and the next step; the command ends with exit code 2."""
