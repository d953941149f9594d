"""Servers: run one user's server from the request, through the queue, to a ready container and its end."""
