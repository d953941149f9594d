"""The only process that holds the Docker socket: a filtering proxy before it.

What is not on its allowlist is refused, what is created equals what policy builds, and nothing
starts unless its lease may.
"""
