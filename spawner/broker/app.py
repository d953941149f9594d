"""Broker: answers a request by matching it, checking it against the ledger and forwarding it to Docker.

It touches only containers with this instance's labels. It creates and starts nothing while the ledger does not answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from aiohttp import web

from spawner.broker.allowlist import CHANGING, AllowedRequest, Operation, match_request
from spawner.broker.bodies import parse_body, read_hub_environment, read_label, require_equal
from spawner.broker.conflicts import Conflicts
from spawner.broker.engine import Engine, Reply
from spawner.broker.errors import BrokerError
from spawner.broker.events import EventRelay
from spawner.broker.extras_check import ExtrasCheck
from spawner.broker.folders import HOST
from spawner.broker.gpu_nodes import read_gpu_nodes
from spawner.broker.homes import Homes, read_home_owner
from spawner.broker.log_tail import read_log_tail
from spawner.ledger import Ledger
from spawner.model import Account, Lease, LeaseState, Unknown
from spawner.policy import container as policy
from spawner.policy import names
from spawner.policy.bounds import Bounds
from spawner.policy.claims import explain_false_lease, is_account_uid
from spawner.policy.probe_container import HUB_IMAGE, ROLE_PROBE, build_probes

log = logging.getLogger(__name__)

_LAUNCH_SECONDS = 120.0
_WAIT_SECONDS = 120.0
_STOP_MARGIN_SECONDS = 30.0
_ROLES = (policy.ROLE_SERVER, policy.ROLE_PREPARE_HOME, ROLE_PROBE)
_MAX_CONCURRENT = {
    Operation.WAIT: 128,
    Operation.STOP: 512,
    Operation.LOG: 32,
    Operation.CREATE: 128,
    Operation.START: 128,
    Operation.WATCH: 16,
}
_T = TypeVar("_T")


class Broker:
    """The rules of one instance in front of one Docker Engine.

    ``images`` maps each release to its image tag. ``ledger`` returns the open ledger or raises Unknown. ``events`` has
    the open event streams. ``require_walls`` raises Unknown unless the walls of the users' network are in place.
    ``host_addresses`` returns those that the network probe tries.
    ``bounds`` limit the extras of every lease. The folders of the bounds are below ``host``.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Callable[[], Ledger],
        *,
        instance: str,
        limits: policy.ContainerLimits,
        images: Mapping[str, str],
        require_walls: Callable[[], None],
        first_uid: int,
        host_addresses: Callable[[], tuple[str, ...]] = tuple,
        bounds: Bounds | None = None,
        host: Path = HOST,
    ) -> None:
        """Take the dependencies; no request is sent yet."""
        self._engine = engine
        self._open_ledger = ledger
        self._instance = instance
        self._limits = limits
        self._images = images
        self._require_walls = require_walls
        self._host_addresses = host_addresses
        self._first_uid = first_uid
        self._extras_check = ExtrasCheck(engine, instance, limits, bounds or Bounds(), host)
        self._conflicts = Conflicts(engine, instance, self._read_gpu_nodes)
        self.homes = Homes(engine, instance)
        self._running: Counter[Operation] = Counter()
        self.events = EventRelay(engine, instance)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        try:
            allowed = _require_allowed(request)
            with self._counted(allowed.operation):
                if allowed.operation is Operation.WATCH:
                    return await self.events.relay(request)
                reply = await self._reply_to(allowed, request)
        except BrokerError as refusal:
            if request.method != "GET":
                path = request.raw_path.partition("?")[0][:200]
                log.warning(
                    "Refused: method=%s path=%r status=%d reason=%s",
                    request.method,
                    path,
                    refusal.status,
                    refusal.sentence,
                )
            return _error_response(refusal.status, refusal.sentence)
        return web.Response(
            status=reply.status, body=reply.body or None, content_type=reply.content_type
        )

    @contextmanager
    def _counted(self, operation: Operation) -> Iterator[None]:
        """Bound the requests of one kind that run at once; raises BrokerError (503), after which the hub retries."""
        if self._running[operation] >= _MAX_CONCURRENT.get(operation, 256):
            raise BrokerError(503, f"Too many {operation.value} requests run at once: try again.")
        self._running[operation] += 1
        try:
            yield
        finally:
            self._running[operation] -= 1

    async def _reply_to(self, allowed: AllowedRequest, request: web.BaseRequest) -> Reply:
        if allowed.operation is Operation.PING:
            return await self._engine.request("GET", "_ping")
        if allowed.operation is Operation.VERSION:
            return await self._engine.request("GET", "version")
        if allowed.operation is Operation.IMAGE:
            if allowed.subject not in (HUB_IMAGE, *self._images.values()):
                raise BrokerError(403, f"{allowed.subject} is no image of the catalog.")
            return await self._engine.request("GET", f"images/{allowed.subject}/json")
        if allowed.operation is Operation.LIST:
            return await self._list(allowed)
        if allowed.operation is Operation.VOLUME:
            reply = await self._engine.request("GET", f"volumes/{allowed.subject}")
            # the name proves nothing: the homes of an instance "lab-home" begin like those of "lab"
            if reply.status == 200 and read_home_owner(reply.parse(), self._instance) is None:
                raise BrokerError(403, f"{allowed.subject} is no home of {self._instance}.")
            return reply
        if allowed.operation is Operation.HOMES:
            return await self.homes.list()
        if allowed.operation is Operation.REMOVE_HOME:
            return await self._remove_home(allowed.subject)
        if allowed.operation is Operation.CREATE:
            try:
                raw = await request.read()
            except web.HTTPRequestEntityTooLarge as error:
                raise BrokerError(413, "The create body is too large.") from error
            return await self._create(allowed.query.get("name", ""), parse_body(raw))
        return await self._on_container(allowed)

    async def _list(self, allowed: AllowedRequest) -> Reply:
        filters = json.dumps({"label": [f"{policy.LABEL_INSTANCE}={self._instance}"]})
        return await self._engine.request(
            "GET", "containers/json", query={**allowed.query, "filters": filters}
        )

    async def _create(self, name: str, posted: dict[str, Any]) -> Reply:
        role = read_label(posted, policy.LABEL_ROLE)
        if role == policy.ROLE_SERVER:
            expected_name, expected = await self._expect_server(posted)
        elif role == policy.ROLE_PREPARE_HOME:
            expected_name, expected = await self._expect_preparation(posted)
        elif role == ROLE_PROBE:
            expected_name, expected = name, await self._expect_probe(name)
        else:
            raise BrokerError(
                403, f"The broker refuses this container: no label {policy.LABEL_ROLE}."
            )
        require_equal(posted, expected)
        if role == ROLE_PROBE:  # the hub does not know the host's addresses
            image_id, hosts = expected["Image"], self._host_addresses()
            expected = build_probes(self._instance, image_id, hosts)[name]
        if name != expected_name:
            raise BrokerError(
                403, f"The broker refuses this container: its name is {expected_name}."
            )
        if role != ROLE_PROBE:  # it has no user, GPU or home
            await self._check_claims(expected["Labels"])
        reply = await self._engine.request(
            "POST",
            "containers/create",
            query={"name": name},
            body=expected,  # the body that policy built, not the posted one
            seconds=_LAUNCH_SECONDS,
        )
        log.info("Docker answered: operation=create container=%s status=%d", name, reply.status)
        return reply

    async def _expect_server(self, posted: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        lease = await self._startable_lease(read_label(posted, policy.LABEL_LEASE))
        tag = self._images.get(lease.release)
        if tag is None:
            raise BrokerError(403, f"The release {lease.release} is not in the catalog.")
        image_id = await self._image_id(tag)
        if image_id is None:
            raise BrokerError(
                409, f"The image {tag} is not on this host: run scripts/up to build it."
            )
        account = await self._account(lease.uid)
        body = policy.build_server(
            lease,
            account,
            instance=self._instance,
            image_id=image_id,
            limits=self._limits,
            environment=read_hub_environment(posted),
        )
        return names.container_name(self._instance, lease), body

    async def _expect_preparation(self, posted: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        account = await self._account(_read_uid(read_label(posted, policy.LABEL_UID)))
        # any image of the catalog is allowed: the hub posts the one that the user starts
        image_ids = [await self._image_id(tag) for tag in self._images.values()]
        if posted.get("Image") is None or posted["Image"] not in image_ids:
            raise BrokerError(
                403, "The broker refuses this container: Image is not in the catalog."
            )
        body = policy.build_home_preparation(
            account, instance=self._instance, image_id=posted["Image"]
        )
        return names.preparation_name(self._instance, account.uid), body

    async def _expect_probe(self, name: str) -> dict[str, Any]:
        """Return the body of a network probe; it may start without walls, because it looks for them."""
        image_id = await self._image_id(HUB_IMAGE)
        if image_id is None:
            raise BrokerError(409, f"The image {HUB_IMAGE} is not on this host: run scripts/up.")
        bodies = build_probes(self._instance, image_id)
        if name not in bodies:
            raise BrokerError(403, f"{name} is no network probe of {self._instance}.")
        return bodies[name]

    async def _remove_home(self, volume: str) -> Reply:
        """Remove the home of an account that is over, if no lease and no container of it is left."""
        account = await self._account(_read_uid(volume.rpartition("-")[2]))
        if volume != names.home_volume(self._instance, account.user, account.uid):
            raise BrokerError(403, f"{volume} is no home of {self._instance}.")
        leases = await self._in_ledger(lambda ledger: ledger.live_leases())
        if not account.is_home_removed or any(lease.uid == account.uid for lease in leases):
            raise BrokerError(409, f"{volume} belongs to an account that is not over.")
        return await self.homes.remove(volume, account)

    async def _read_gpu_nodes(self) -> Mapping[str, frozenset[str]]:
        return await asyncio.to_thread(read_gpu_nodes)

    async def _image_id(self, tag: str) -> str | None:
        reply = await self._engine.request("GET", f"images/{tag}/json")
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise BrokerError(502, f"Docker did not describe the image {tag}.")
        return str(reply.parse().get("Id"))

    async def _on_container(self, allowed: AllowedRequest) -> Reply:
        """Forward a request about one container after checking that it belongs to this instance."""
        inspected = await self._engine.request("GET", f"containers/{allowed.subject}/json")
        if inspected.status != 200:
            return inspected
        container = inspected.parse()
        labels = _read_labels(container)
        if (
            labels.get(policy.LABEL_INSTANCE) != self._instance
            or labels.get(policy.LABEL_ROLE) not in _ROLES
        ):
            raise BrokerError(403, f"{allowed.subject} is not a container of {self._instance}.")
        if allowed.operation is Operation.INSPECT:
            return inspected
        container_id = str(container["Id"])
        if allowed.operation is Operation.START:
            with self._conflicts.starting(labels, container_id):
                if labels[policy.LABEL_ROLE] == policy.ROLE_SERVER:
                    await self._check_fence(labels)
                if labels[policy.LABEL_ROLE] != ROLE_PROBE:
                    await self._check_claims(labels, container_id)
                reply = await self._forward(allowed, container_id)
        else:
            reply = await self._forward(allowed, container_id)
        if allowed.operation in CHANGING:
            log.info(
                "Docker answered: operation=%s container=%s status=%d",
                allowed.operation.value,
                allowed.subject,
                reply.status,
            )
        return reply

    async def _forward(self, allowed: AllowedRequest, container_id: str) -> Reply:
        """Forward with the inspected id: the name could belong to another container by now."""
        path = f"containers/{container_id}"
        if allowed.operation is Operation.LOG:
            return await read_log_tail(self._engine, f"{path}/logs", allowed.query)
        if allowed.operation is Operation.WAIT:
            return await self._engine.request("POST", f"{path}/wait", seconds=_WAIT_SECONDS)
        if allowed.operation is Operation.STOP:
            seconds = int(allowed.query.get("t", "10")) + _STOP_MARGIN_SECONDS
            return await self._engine.request(
                "POST", f"{path}/stop", query=allowed.query, seconds=seconds
            )
        if allowed.operation is Operation.REMOVE:
            # with its anonymous volumes: that of its terminals, never a home
            return await self._engine.request("DELETE", path, query={"v": "1"})
        return await self._engine.request("POST", f"{path}/start", seconds=_LAUNCH_SECONDS)

    async def _startable_lease(self, lease_id: str) -> Lease:
        try:
            self._require_walls()
        except Unknown as error:
            raise BrokerError(503, f"No server may start: {error}") from error
        lease = await self._in_ledger(lambda ledger: ledger.lease(lease_id))
        if lease is None:
            raise BrokerError(
                403, "The broker refuses this container: the ledger has no such lease."
            )
        if lease.state is not LeaseState.GRANTED:
            raise BrokerError(
                409, f"Lease {lease.id} is {lease.state.value}: no container of it may start."
            )
        lie = explain_false_lease(lease, self._first_uid)
        if lie is not None:
            raise BrokerError(403, f"The broker refuses this lease: {lie}.")
        await self._extras_check(lease)
        return lease

    async def _account(self, uid: int) -> Account:
        account = None
        if is_account_uid(uid, self._first_uid):
            account = await self._in_ledger(lambda ledger: ledger.account(uid))
        if account is None or account.uid != uid:
            raise BrokerError(403, "The broker refuses this container: its uid is no account's.")
        return account

    async def _check_claims(self, labels: Mapping[str, str], container_id: str = "") -> None:
        """Compare what a container claims with Docker: the owner of its home volume, and all running containers."""
        account = await self._account(_read_uid(labels.get(policy.LABEL_UID, "")))
        volume = names.home_volume(self._instance, account.user, account.uid)
        home = await self._engine.request("GET", f"volumes/{volume}")
        if home.status not in (200, 404):
            raise BrokerError(503, f"Docker did not describe the volume {volume}.")
        if home.status == 200 and read_home_owner(home.parse(), self._instance) != account.user:
            raise BrokerError(
                409,
                f"The volume {volume} has not the labels of {account.user}'s home: "
                "see 'Back up' in docs/backup-upgrade.md.",
            )
        await self._conflicts.require_none(labels, container_id)

    async def _check_fence(self, labels: Mapping[str, str]) -> None:
        """Refuse a start unless the lease is unchanged since its container was created.

        A running lease starts nothing again. A lease that a restored backup returned to the queue may hold other GPUs
        now: then its epoch or its GPUs differ from the container's labels.
        """
        lease = await self._startable_lease(labels.get(policy.LABEL_LEASE, ""))
        made_for = (labels.get(policy.LABEL_EPOCH), labels.get(policy.LABEL_GPUS))
        if made_for != (str(lease.epoch), ",".join(lease.gpu_uuids)):
            raise BrokerError(
                409,
                f"Lease {lease.id} has changed since its container was created: it may not start.",
            )

    async def _in_ledger(self, read: Callable[[Ledger], _T]) -> _T:
        try:
            return await asyncio.to_thread(lambda: read(self._open_ledger()))
        except (sa.exc.SQLAlchemyError, Unknown, ValueError) as error:
            log.warning("Ledger unreadable: state=unknown reason=%s", error)
            raise BrokerError(
                503, "The ledger cannot be read, so nothing may start: see the broker's log."
            ) from error


def _require_allowed(request: web.BaseRequest) -> AllowedRequest:
    if "Upgrade" in request.headers:
        raise BrokerError(403, "The broker does not allow connection upgrades.")
    return match_request(request.method, request.raw_path)


def _read_labels(container: Mapping[str, Any]) -> Mapping[str, str]:
    try:
        return dict(container["Config"]["Labels"] or {})
    except (LookupError, TypeError, ValueError) as error:
        raise BrokerError(502, "Docker's answer has no labels.") from error


def _read_uid(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1


def _error_response(status: int, sentence: str) -> web.Response:
    body = json.dumps({"message": sentence}).encode()
    # no charset: Docker clients compare the whole content type
    return web.Response(status=status, body=body, content_type="application/json")
