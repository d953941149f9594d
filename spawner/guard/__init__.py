"""The network guard: keeps the firewall rules of one workbench's networks in place.

It holds NET_ADMIN in the host's network and nothing else: no Docker socket, no ledger, no open port.
"""
