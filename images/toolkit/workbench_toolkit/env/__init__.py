"""Environments: ``wb env`` manages the user's packages and environments of their own in the home."""
