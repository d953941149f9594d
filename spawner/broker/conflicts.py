"""Conflicts: refuses a container whose GPUs or home are in use by another container of the instance.

The hub can write any row of the ledger, so the broker compares with Docker's own list. A list that cannot be read
refuses the container too: an unknown GPU counts as used.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from spawner.broker.engine import Engine
from spawner.broker.errors import BrokerError
from spawner.broker.gpu_nodes import get_related_gpu
from spawner.policy import container as policy

_OK = 200


class Conflicts:
    """The running containers of one instance, and the starts that have not ended."""

    def __init__(
        self,
        engine: Engine,
        instance: str,
        read_nodes: Callable[[], Awaitable[Mapping[str, frozenset[str]]]],
    ) -> None:
        """Take the dependencies; no request is sent yet."""
        self._engine = engine
        self._read_nodes = read_nodes
        self._filters = json.dumps({"label": [f"{policy.LABEL_INSTANCE}={instance}"]})
        self._starting: dict[str, Mapping[str, str]] = {}

    async def require_none(self, labels: Mapping[str, str], container_id: str = "") -> None:
        """Raise BrokerError if another running container has a GPU or the home of ``labels``.

        Its status is 409, or 503 if Docker does not list the running containers.
        """
        nodes = await self._read_nodes() if _read_gpus(labels) else {}
        for other_id, other in {**self._starting, **await self._list_running()}.items():
            reason = None if other_id == container_id else _explain_conflict(labels, other, nodes)
            if reason is not None:
                raise BrokerError(409, reason)

    async def _list_running(self) -> dict[str, Mapping[str, str]]:
        query = {"filters": self._filters}
        try:
            listed = await self._engine.request("GET", "containers/json", query=query)
            if listed.status == _OK:
                return {str(row["Id"]): dict(row["Labels"] or {}) for row in listed.parse_list()}
            error: Exception | None = None
        except (BrokerError, LookupError, TypeError, ValueError) as failure:
            error = failure
        raise BrokerError(
            503, "Docker did not list the running containers, so nothing may start."
        ) from error

    @contextmanager
    def starting(self, labels: Mapping[str, str], container_id: str) -> Iterator[None]:
        """Count the container as running during the block; no other start can pass its check meanwhile."""
        if container_id in self._starting:
            raise BrokerError(409, "This container is starting already.")
        self._starting[container_id] = labels
        try:
            yield
        finally:
            del self._starting[container_id]


def _explain_conflict(
    labels: Mapping[str, str], other: Mapping[str, str], nodes: Mapping[str, frozenset[str]]
) -> str | None:
    wanted, held = _read_gpus(labels), _read_gpus(other)
    used = wanted & held
    holder = other.get(policy.LABEL_LEASE, "")
    related = get_related_gpu(sorted(wanted), sorted(held), nodes)
    if related is not None and not used:
        return (
            f"GPU {related} is the parent or an instance of a GPU in use by lease {holder}: "
            "no other container may have it."
        )
    if used:
        return f"GPU {min(used)} is in use by lease {holder}: no other container may have it."
    roles = {labels.get(policy.LABEL_ROLE), other.get(policy.LABEL_ROLE)}
    same_home = labels.get(policy.LABEL_UID) == other.get(policy.LABEL_UID)
    if same_home and policy.ROLE_PREPARE_HOME in roles:
        return "A home is prepared only while no other container uses it: stop this user's servers."
    return None


def _read_gpus(labels: Mapping[str, str]) -> set[str]:
    return set(filter(None, labels.get(policy.LABEL_GPUS, "").split(",")))
