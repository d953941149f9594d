"""Spawner: adapts JupyterHub's Spawner to the lease controller, one instance for each server of a user.

``site_spawner`` has the traits that site files set.

A server counts as gone only when Docker has proved it. A failed spawn releases its lease before its user reads the
error.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any

from jupyterhub import orm
from traitlets import Integer

from spawner.controller.end_watcher import cause_of_end
from spawner.hub.identity import quota_subject
from spawner.hub.refusal import SpawnRefused
from spawner.hub.servers.grant import release_until_gone, wait_for_grant
from spawner.hub.servers.launch import format_failure, launch
from spawner.hub.servers.presence import has_been_opened
from spawner.hub.servers.progress import Progress
from spawner.hub.servers.readiness import assume_up
from spawner.hub.servers.site_spawner import SiteSpawner
from spawner.hub.views.form import parse_form, render_form
from spawner.hub.views.queue import Viewer, build_wait_view, format_position
from spawner.ledger.trail import HUB
from spawner.model import (
    Cause,
    Gpu,
    GpuHealth,
    LaunchError,
    Lease,
    Options,
    OptionsError,
    QueuePosition,
    Reason,
    Refused,
    Request,
    Unknown,
)


class WorkbenchSpawner(SiteSpawner):
    """Starts, watches and stops the container of one server."""

    answer_timeout = Integer(
        120,
        min=1,
        config=True,
        help="Seconds from the grant until the container must accept connections.",
    )

    will_resume = False

    _lease_id: str | None
    _host: str
    _ready_at: float | None
    _token_id: int | None
    _gpus: tuple[Gpu, ...]
    _is_starting: bool
    _exit_code: int | None
    _has_lease_ended: bool
    _closing: asyncio.Task[None] | None
    _noticing: asyncio.Task[int | None] | None
    _progress: Progress
    ended_by: str
    """The actor who last asked for the server's end, by the name in the audit trail."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Start without a lease; JupyterHub then calls ``load_state``."""
        self._forget()
        self._noticing = None
        super().__init__(**kwargs)
        self._accepted_options = self.user_options
        self.options_form = functools.partial(render_form, self.get_workbench())
        # ``start`` parses the options: an error in this hook would be logged with a traceback
        self.apply_user_options = lambda _spawner, _options: None

    # --- state that JupyterHub stores

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs that this server holds, as the pages show them."""
        return self._gpus

    def get_state(self) -> dict[str, Any]:
        """Return the state with which a restarted hub finds this server."""
        state: dict[str, Any] = super().get_state()
        if self._token_id is not None:
            state["token_id"] = self._token_id
        if self._lease_id is not None:
            state |= {
                "lease_id": self._lease_id,
                "host": self._host,
                "ready_at": self._ready_at,
                "gpus": [asdict(gpu) for gpu in self._gpus],
            }
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Load the state of a server that an earlier hub started."""
        super().load_state(state)
        self._token_id = state.get("token_id")
        if "lease_id" in state:
            self._lease_id, self._host = state["lease_id"], state["host"]
            self._ready_at = state["ready_at"]
            self._register()
            self._gpus = tuple(
                Gpu(**{**gpu, "health": GpuHealth(gpu["health"])}) for gpu in state["gpus"]
            )

    def clear_state(self) -> None:
        """Reset to no server; JupyterHub calls this before a start and after a stop."""
        super().clear_state()
        self._forget()

    def _forget(self) -> None:
        self._lease_id = None
        self._host = ""
        self._ready_at = None
        self._token_id = None
        self._gpus = ()
        self._is_starting = False
        self._exit_code = None
        self._has_lease_ended = False
        self._closing = None
        self.ended_by = HUB
        self._progress = Progress()

    # --- options: form and REST API both end in ``start``, which validates them by the one schema

    def options_from_form(self, form_data: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return the form's fields as options; raises SpawnRefused before anything is created."""
        options = parse_form(form_data)
        self._parse(options)
        return options

    def options_from_query(self, query_data: Mapping[str, list[str]]) -> dict[str, Any]:
        """Refuse: a link on any web page could otherwise claim GPUs."""
        raise SpawnRefused(
            Refused(
                Reason.INVALID_OPTIONS,
                "A link cannot start a server: choose the options below and press Start.",
            )
        )

    def _parse(self, raw: object) -> Options:
        try:
            options: Options = self.get_workbench().parse(raw)
        except OptionsError as error:
            # JupyterHub has stored the options already; a later start without options must not use them
            if self.orm_spawner.user_options != self._accepted_options:
                self.orm_spawner.user_options = self._accepted_options
                self.user.db.commit()
            raise SpawnRefused(Refused(Reason.INVALID_OPTIONS, str(error))) from error
        return options

    # --- start

    async def start(self) -> str:
        """Start the server, and report a refusal at once: JupyterHub raises it only after its cleanup."""
        try:
            return await self._start()
        except SpawnRefused as refused:
            self._report("report_refused", refused)
            raise

    def _require_approval(self) -> None:
        # sign-up and the log-in at a provider know it; a site's own authenticator may not
        is_unapproved = getattr(self.authenticator, "is_unapproved", None)
        if is_unapproved is not None and is_unapproved(self.user.name):
            sentence = f"The account {self.user.name} is not approved: ask an admin."
            raise SpawnRefused(Refused(Reason.NOT_APPROVED, sentence))

    def _report(self, method: str, *arguments: object) -> None:
        """Call ``method`` of the handler that asked for this start, if it is one of ours."""
        report = getattr(self.handler, method, None)
        if report is not None:
            report(*arguments)

    async def _start(self) -> str:
        """Acquire a lease, wait in the queue if necessary, launch the container, and return the server's URL.

        Raises SpawnRefused after releasing the lease. A hub that shuts down releases nothing: the next one resumes.
        """
        workbench = self.get_workbench()
        self._require_approval()
        options = self._parse(self.user_options)
        self._accepted_options = self.user_options
        owner = quota_subject(self.user)
        refused = workbench.disk.refuse_start(
            owner.identity, options.start_mode
        ) or workbench.start_rate.take(owner.name)
        if refused is not None:
            raise SpawnRefused(refused)
        extras = await self.evaluate_extras(options.release)
        request = Request(owner.name, self.name, options, owner.identity, owner.groups, extras)
        lease = await wait_for_grant(workbench, request, self._report_position)
        self._lease_id, self._is_starting = lease.id, True
        self._register()
        cause: Cause | None = Cause.FAILED
        try:
            # the approval may have been taken back before the lease existed
            self._require_approval()
            async with (
                workbench.launch_slots.take(owner.name),
                asyncio.timeout(self.answer_timeout),
            ):
                self._host, self._gpus = await launch(
                    workbench, lease, self.get_env(), self.port, self._progress
                )
            self._ready_at = None if lease.is_claimed else time.time()
            self._save_state()
            await workbench.controller.confirm(lease.id)
            cause = None
        except asyncio.CancelledError:
            cause = None if workbench.is_shutting_down else Cause.USER
            raise
        except TimeoutError as error:
            sentence = (
                f"Your server was not ready within {self.answer_timeout} s: "
                "start it again, or tell an admin."
            )
            raise SpawnRefused(Refused(Reason.START_FAILED, sentence)) from error
        except (LaunchError, Unknown) as error:
            sentence = await format_failure(workbench, lease, error)
            # with an unknown state a retry may help, a failed start needs a repair
            reason = Reason.NOT_READY if isinstance(error, Unknown) else Reason.START_FAILED
            raise SpawnRefused(Refused(reason, sentence)) from error
        finally:
            self._is_starting = False
            self._progress.finish()
            if cause is not None:
                # JupyterHub calls ``stop`` after a failed start, and ``stop`` waits for this task
                self._close(cause)
        return await self.get_url()

    def _report_position(self, lease: Lease, queue_position: QueuePosition) -> None:
        if self._token_id is None:
            self._save_state()  # the wait may outlive this hub, and the next one must revoke this spawn's token
            self._report("report_queued")
        workbench = self.get_workbench()
        self._progress.report_position(
            format_position(workbench, lease, queue_position), queue_position
        )

    def _save_state(self) -> None:
        """Store the state now: JupyterHub stores it after ``start``, too late for a hub that is killed before."""
        token = orm.APIToken.find(self.user.db, self.api_token)
        self._token_id = None if token is None else token.id
        self.orm_spawner.state = self.get_state()
        self.user.db.commit()

    def _register(self) -> None:
        self.get_workbench().servers[(self.user.name, self.name)] = self

    async def get_url(self) -> str:
        """Return the URL at which the proxy reaches this server."""
        if self._check_pending:
            # a restarted hub would stop a server that does not answer at once; Docker says that it runs
            self.server.wait_up = assume_up
        return f"http://{self._host}:{self.port}{self.server.base_url}"

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the steps of this spawn from the first on; a wait includes the requests ahead."""
        workbench = self.get_workbench()
        viewer = Viewer(self.user.name, workbench.settings.show_queue_names)
        async for step in self._progress.follow():
            event = {
                "progress": step.percent,
                "message": step.message,
                "elapsed_seconds": round(step.elapsed_seconds, 2),
            }
            if step.queue_position is not None:
                event["waiting"] = await build_wait_view(workbench, viewer, step.queue_position)
            yield event

    # --- after the start

    async def poll(self) -> int | None:
        """Return None while the server runs or its state is unknown, its exit code once Docker has proved its end.

        "Runs" may be some seconds old, because all polls share one query. ``notice_end`` reports an end at once.
        """
        if self._lease_id is None:
            return 0
        if self._is_starting:
            return None
        if self._exit_code is not None:
            return self._exit_code
        if self._closing is not None:
            return 0 if self._closing.done() else None
        workbench = self.get_workbench()
        controller = workbench.controller
        try:
            is_listed = (
                not self._has_lease_ended and self._lease_id in await workbench.running_leases()
            )
            status = None if is_listed else await controller.inspect(self._lease_id)
            if is_listed or (status is not None and status.is_running):
                return None
        except Unknown as error:
            self.log.warning(
                "lease=%s user=%s server=%r state=unknown reason=%s",
                self._lease_id,
                self.user.name,
                self.name,
                error,
            )
            return None
        # remove the ended container; if that fails now, the controller retries
        await controller.release(self._lease_id, cause_of_end(status))
        self._exit_code = (status.exit_code if status is not None else None) or 0
        return self._exit_code

    async def poll_and_notify(self) -> int | None:
        """Poll as JupyterHub does, but share a poll that is already in progress.

        Otherwise a user could start the server again during the poll, and JupyterHub would stop the new one.
        """
        if self._noticing is None or self._noticing.done():
            self._noticing = asyncio.create_task(super().poll_and_notify())
        status: int | None = await asyncio.shield(self._noticing)
        return status

    async def notice_end(self) -> None:
        """Make JupyterHub remove the route and the state of a server whose lease has ended."""
        self._has_lease_ended = True
        if self.ready:
            await self.poll_and_notify()

    def has_been_opened(self) -> bool:
        """Return whether the user has used the server since it became ready."""
        return self._ready_at is not None and has_been_opened(self, self._ready_at)

    async def stop(self, now: bool = False) -> None:
        """Release the lease; return only when Docker has proved that the container is gone."""
        if self._lease_id is not None:
            # the hub, not the user, stops a server that failed JupyterHub's own check
            await asyncio.shield(
                self._close(Cause.FAILED if self._waiting_for_response else Cause.USER)
            )

    def run_post_stop_hook(self) -> object:
        """Revoke the server's token; a restarted JupyterHub no longer knows which token it was."""
        token = self.user.db.get(orm.APIToken, self._token_id) if self._token_id else None
        if token is not None and token.user is self.user.orm_user:
            self.user.db.delete(token)
            self.user.db.commit()
        return super().run_post_stop_hook()

    def _close(self, cause: Cause) -> asyncio.Task[None]:
        if self._closing is None:
            release = release_until_gone(
                self.get_workbench(), str(self._lease_id), cause, by=self.ended_by
            )
            self._closing = asyncio.create_task(release)
        return self._closing
