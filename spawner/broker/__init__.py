"""The broker: filters all requests to Docker; no other process holds the Docker socket.

It refuses every request outside its allowlist. A created container equals the one that policy builds. A container
starts only if its lease allows that.
"""
