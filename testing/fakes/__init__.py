"""Fakes of outside things, for faults that the real ones cannot be made to show."""
