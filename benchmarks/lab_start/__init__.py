"""How fast a server of the release image starts."""
