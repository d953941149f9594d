"""Answers one request: match it, check it against the ledger, and ask Docker.

Only containers that carry this instance's labels are touched; without the ledger's word nothing is
created or started.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa
from aiohttp import web

from spawner.broker.allowlist import CHANGING, Operation, AllowedRequest, match
from spawner.broker.bodies import parse_body, read_hub_environment, read_label, require_equal
from spawner.broker.engine import Engine, Reply
from spawner.broker.events import EventRelay
from spawner.broker.errors import BrokerError
from spawner.ledger import Ledger
from spawner.model import Lease, LeaseState, Unknown
from spawner.policy import container as policy
from spawner.policy import names

log = logging.getLogger("workbench.broker")

_LAUNCH_SECONDS = 120.0
_WAIT_SECONDS = 120.0
_STOP_MARGIN_SECONDS = 30.0
_ROLES = (policy.ROLE_SERVER, policy.ROLE_PREPARE_HOME)
_T = TypeVar("_T")


class Broker:
    """The rules of one instance before one Docker Engine.

    ``images`` maps each release to its image tag; ``ledger`` returns the open ledger or raises
    Unknown. ``events`` has every stream that is open.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Callable[[], Ledger],
        *,
        instance: str,
        limits: policy.ContainerLimits,
        images: Mapping[str, str],
    ) -> None:
        """Join the parts; nothing is asked yet."""
        self._engine = engine
        self._open_ledger = ledger
        self._instance = instance
        self._limits = limits
        self._images = images
        self.events = EventRelay(engine, instance)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        try:
            asked = _match_request(request)
            if asked.action is Operation.WATCH:
                return await self.events.relay(request)
            reply = await self._answer(asked, request)
        except BrokerError as refusal:
            if request.method != "GET":
                what = request.raw_path.partition("?")[0][:200]
                log.warning("%s %r refused: %s", request.method, what, refusal.sentence)
            return _error_response(refusal.status, refusal.sentence)
        return web.Response(
            status=reply.status, body=reply.body or None, content_type=reply.content_type
        )

    async def _answer(self, asked: AllowedRequest, request: web.BaseRequest) -> Reply:
        if asked.action is Operation.PING:
            return await self._engine.request("GET", "_ping")
        if asked.action is Operation.VERSION:
            return await self._engine.request("GET", "version")
        if asked.action is Operation.IMAGE:
            return await self._engine.request("GET", f"images/{asked.subject}/json")
        if asked.action is Operation.LIST:
            return await self._list(asked)
        if asked.action is Operation.VOLUME:
            if not asked.subject.startswith(f"{self._instance}-home-"):
                raise BrokerError(403, f"{asked.subject} is no home of {self._instance}.")
            return await self._engine.request("GET", f"volumes/{asked.subject}")
        if asked.action is Operation.CREATE:
            try:
                raw = await request.read()
            except web.HTTPRequestEntityTooLarge as error:
                raise BrokerError(413, "The create body is too large.") from error
            return await self._create(asked.query.get("name", ""), parse_body(raw))
        return await self._on_container(asked)

    async def _list(self, asked: AllowedRequest) -> Reply:
        filters = json.dumps({"label": [f"{policy.LABEL_INSTANCE}={self._instance}"]})
        return await self._engine.request(
            "GET", "containers/json", query={**asked.query, "filters": filters}
        )

    async def _create(self, name: str, posted: dict[str, Any]) -> Reply:
        role = read_label(posted, policy.LABEL_ROLE)
        if role == policy.ROLE_SERVER:
            expected_name, expected = await self._expect_server(posted)
        elif role == policy.ROLE_PREPARE_HOME:
            expected_name, expected = await self._expect_preparation(posted)
        else:
            raise BrokerError(403, f"The broker refuses this container: no label {policy.LABEL_ROLE}.")
        require_equal(posted, expected)
        if name != expected_name:
            raise BrokerError(403, f"The broker refuses this container: its name is {expected_name}.")
        reply = await self._engine.request(
            "POST",
            "containers/create",
            query={"name": name},
            body=expected,  # what policy built, not what was posted
            seconds=_LAUNCH_SECONDS,
        )
        log.info("create %s: docker answered %d", name, reply.status)
        return reply

    async def _expect_server(self, posted: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        lease = await self._startable_lease(read_label(posted, policy.LABEL_LEASE))
        tag = self._images.get(lease.release)
        if tag is None:
            raise BrokerError(403, f"The release {lease.release} is not in the catalog.")
        image_id = await self._image_id(tag)
        if image_id is None:
            raise BrokerError(409, f"The image {tag} is not on this host: run scripts/up to build it.")
        account = await self._in_ledger(lambda ledger: ledger.account(lease.uid))
        if account is None:
            raise BrokerError(403, "The broker refuses this container: its uid is no account's.")
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
        text = read_label(posted, policy.LABEL_UID)
        uid = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1
        account = await self._in_ledger(lambda ledger: ledger.account(uid))
        if account is None:
            raise BrokerError(403, "The broker refuses this container: its uid is no account's.")
        # any image of the catalog will do: the one that the user is about to start
        image_ids = [await self._image_id(tag) for tag in self._images.values()]
        if posted.get("Image") is None or posted["Image"] not in image_ids:
            raise BrokerError(403, "The broker refuses this container: Image is not in the catalog.")
        body = policy.build_home_preparation(
            account, instance=self._instance, image_id=posted["Image"]
        )
        return names.preparation_name(self._instance, account.uid), body

    async def _image_id(self, tag: str) -> str | None:
        reply = await self._engine.request("GET", f"images/{tag}/json")
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise BrokerError(502, f"Docker did not say what the image {tag} is.")
        return str(reply.parse().get("Id"))

    async def _on_container(self, asked: AllowedRequest) -> Reply:
        """Do something to one container after seeing that it is ours."""
        looked = await self._engine.request("GET", f"containers/{asked.subject}/json")
        if looked.status != 200:
            return looked
        seen = looked.parse()
        labels = _read_labels(seen)
        if (
            labels.get(policy.LABEL_INSTANCE) != self._instance
            or labels.get(policy.LABEL_ROLE) not in _ROLES
        ):
            raise BrokerError(403, f"{asked.subject} is not a container of {self._instance}.")
        if asked.action is Operation.INSPECT:
            return looked
        if asked.action is Operation.START and labels[policy.LABEL_ROLE] == policy.ROLE_SERVER:
            await self._check_fence(labels)
        reply = await self._forward(asked, str(seen["Id"]))
        if asked.action in CHANGING:
            log.info("%s %s: docker answered %d", asked.action.value, asked.subject, reply.status)
        return reply

    async def _forward(self, asked: AllowedRequest, container_id: str) -> Reply:
        """Ask by the id that was looked at: a name could meanwhile mean another container."""
        path = f"containers/{container_id}"
        if asked.action is Operation.LOG:
            return await self._engine.request("GET", f"{path}/logs", query=asked.query)
        if asked.action is Operation.WAIT:
            return await self._engine.request("POST", f"{path}/wait", seconds=_WAIT_SECONDS)
        if asked.action is Operation.STOP:
            seconds = int(asked.query.get("t", "10")) + _STOP_MARGIN_SECONDS
            return await self._engine.request(
                "POST", f"{path}/stop", query=asked.query, seconds=seconds
            )
        if asked.action is Operation.REMOVE:
            return await self._engine.request("DELETE", path)
        return await self._engine.request("POST", f"{path}/start", seconds=_LAUNCH_SECONDS)

    async def _startable_lease(self, lease_id: str) -> Lease:
        lease = await self._in_ledger(lambda ledger: ledger.lease(lease_id))
        if lease is None:
            raise BrokerError(403, "The broker refuses this container: the ledger has no such lease.")
        if lease.state is not LeaseState.GRANTED:
            raise BrokerError(
                409, f"Lease {lease.id} is {lease.state.value}: no container of it may start."
            )
        return lease

    async def _check_fence(self, labels: Mapping[str, str]) -> None:
        """Refuse a start unless the lease is still as it was when the container was made.

        A lease that runs starts nothing again. One that an old backup brought back into line may have been granted
        other GPUs since: it has another epoch, or at the very least those.
        """
        lease = await self._startable_lease(labels.get(policy.LABEL_LEASE, ""))
        made_for = (labels.get(policy.LABEL_EPOCH), labels.get(policy.LABEL_GPUS))
        if made_for != (str(lease.epoch), ",".join(lease.gpu_uuids)):
            raise BrokerError(
                409, f"Lease {lease.id} has changed since its container was made: it may not start."
            )

    async def _in_ledger(self, read: Callable[[Ledger], _T]) -> _T:
        try:
            return await asyncio.to_thread(lambda: read(self._open_ledger()))
        except (sa.exc.SQLAlchemyError, Unknown, ValueError) as error:
            log.warning("The ledger cannot be read: %s", error)
            raise BrokerError(
                503, "The ledger cannot be read, so nothing may start: see the broker's log."
            ) from error


def _match_request(request: web.BaseRequest) -> AllowedRequest:
    if "Upgrade" in request.headers:
        raise BrokerError(403, "The broker does not allow connection upgrades.")
    return match(request.method, request.raw_path)


def _read_labels(seen: Mapping[str, Any]) -> Mapping[str, str]:
    try:
        return dict(seen["Config"]["Labels"] or {})
    except (LookupError, TypeError, ValueError) as error:
        raise BrokerError(502, "Docker's answer has no labels.") from error


def _error_response(status: int, sentence: str) -> web.Response:
    body = json.dumps({"message": sentence}).encode()
    # no charset: clients of Docker compare the content type as a whole
    return web.Response(status=status, body=body, content_type="application/json")
