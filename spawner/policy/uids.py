"""Uids: names the Linux identity of each service, above the uids of all people.

Two services never share an identity: a fallen one can neither read the memory, environment and files of another nor
use its sockets. The Dockerfiles and docker-compose.yml repeat the numbers; a test compares them.
"""

from __future__ import annotations

LAST_ACCOUNT_UID = 1_999_999_999
HUB_UID = 2_000_000_001
PROXY_UID = 2_000_000_002
AGENT_UID = 2_000_000_003
TLS_UID = 2_000_000_004
