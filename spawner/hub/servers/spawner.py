"""One server of one user, as JupyterHub sees it.

A thin shell over the controller: a server is gone only when Docker proved it, and a spawn that fails has given
everything back before its user is told.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any

from jupyterhub import orm
from jupyterhub.spawner import Spawner
from jupyterhub.traitlets import Callable
from traitlets import Integer

from spawner.controller.end_watcher import cause_of_end
from spawner.hub.identity import quota_subject
from spawner.hub.refusal import SpawnRefused
from spawner.hub.servers.launch import launch, format_failure
from spawner.hub.servers.readiness import assume_up
from spawner.hub.servers.progress import Progress
from spawner.hub.servers.grant import release_until_gone, wait_for_grant
from spawner.hub.servers.presence import has_been_opened
from spawner.hub.views.form import parse_form, render_form
from spawner.hub.views.queue import Viewer, format_position, build_wait_view
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


class WorkbenchSpawner(Spawner):  # type: ignore[misc]
    """Starts, watches and stops the container of one server."""

    get_workbench = Callable(
        config=True,
        help="Returns the Workbench of this hub (a function: traitlets would copy anything else).",
    )
    answer_timeout = Integer(
        120,
        min=1,
        config=True,
        help="Seconds from the grant within which the container has to be up and answer.",
    )

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
    """Who asked for its end last, as the audit trail calls them."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Begin with no lease; JupyterHub then calls ``load_state``."""
        self._forget()
        self._noticing = None
        super().__init__(**kwargs)
        self._accepted_options = self.user_options
        self.options_form = functools.partial(render_form, self.get_workbench())
        # ``start`` reads them: an error in this hook would be logged with a traceback
        self.apply_user_options = lambda _spawner, _options: None

    # --- what JupyterHub remembers

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs that this server holds, for the pages."""
        return self._gpus

    def get_state(self) -> dict[str, Any]:
        """Return what a restarted hub needs to find this server again."""
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
        """Take up the server that an earlier hub started."""
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
        """Forget the server; JupyterHub calls this before a start and after a stop."""
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

    # --- options: every door ends in ``start``, which asks the one schema

    def options_from_form(self, form_data: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return the form's fields as the values they stand for; raises SpawnRefused before anything is created."""
        options = parse_form(form_data)
        self._parse(options)
        return options

    def options_from_query(self, query_data: Mapping[str, list[str]]) -> dict[str, Any]:
        """Refuse: any page of the web can hold a link, and following one must not claim GPUs."""
        raise SpawnRefused(
            Refused(
                Reason.INVALID_OPTIONS,
                "A link cannot start a server: choose below and press Start.",
            )
        )

    def _parse(self, raw: object) -> Options:
        try:
            options: Options = self.get_workbench().parse(raw)
        except OptionsError as error:
            # JupyterHub stored them already; a later start without options must not meet them again
            if self.orm_spawner.user_options != self._accepted_options:
                self.orm_spawner.user_options = self._accepted_options
                self.user.db.commit()
            raise SpawnRefused(Refused(Reason.INVALID_OPTIONS, str(error))) from error
        return options

    # --- start

    async def start(self) -> str:
        """Claim or wait, launch, and wait for the answer; return the server's URL.

        Raises SpawnRefused with everything given back. A hub that shuts down gives nothing back: the next one goes on.
        """
        workbench = self.get_workbench()
        options = self._parse(self.user_options)
        self._accepted_options = self.user_options
        owner = quota_subject(self.user)
        request = Request(owner.name, self.name, options, owner.identity, owner.groups)
        lease = await wait_for_grant(workbench, request, self._report_position)
        self._lease_id, self._is_starting = lease.id, True
        self._register()
        cause: Cause | None = Cause.FAILED
        try:
            async with workbench.launch_slots, asyncio.timeout(self.answer_timeout):
                self._host, self._gpus = await launch(
                    workbench, lease, self.get_env(), self.port, self._progress
                )
            self._ready_at = None if lease.is_claimed else time.time()
            self._remember()
            await workbench.controller.confirm(lease.id)
            cause = None
        except asyncio.CancelledError:
            cause = None if workbench.is_shutting_down else Cause.USER
            raise
        except TimeoutError as error:
            sentence = f"Your server did not answer within {self.answer_timeout} s: try again, or tell an admin."
            raise SpawnRefused(Refused(Reason.START_FAILED, sentence)) from error
        except (LaunchError, Unknown) as error:
            sentence = await format_failure(workbench, lease, error)
            # nobody knows what there is to repair, where anything is
            reason = Reason.NOT_READY if isinstance(error, Unknown) else Reason.START_FAILED
            raise SpawnRefused(Refused(reason, sentence)) from error
        finally:
            self._is_starting = False
            self._progress.finish()
            if cause is not None:
                # JupyterHub stops what failed to start, and ``stop`` waits for this
                self._close(cause)
        return await self.get_url()

    def _report_position(self, lease: Lease, place: QueuePosition) -> None:
        if self._token_id is None:
            self._remember()  # a wait is long, and the next hub revokes the token that this spawn was given
            waiter = getattr(self.handler, "is_queued", None)
            if waiter is not None:
                waiter.set()
        workbench = self.get_workbench()
        self._progress.report_position(format_position(workbench, lease, place), place)

    def _remember(self) -> None:
        """Store the state now: JupyterHub does it after ``start``, and a hub that dies in between would forget."""
        token = orm.APIToken.find(self.user.db, self.api_token)
        self._token_id = None if token is None else token.id
        self.orm_spawner.state = self.get_state()
        self.user.db.commit()

    def _register(self) -> None:
        self.get_workbench().servers[(self.user.name, self.name)] = self

    async def get_url(self) -> str:
        """Return where the proxy reaches this server."""
        if self._check_pending:
            # a hub that just started would stop it unless it answers now; Docker's word is enough
            self.server.wait_up = assume_up
        return f"http://{self._host}:{self.port}{self.server.base_url}"

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the steps of this spawn to one viewer, from the first on; a wait says who is ahead."""
        workbench = self.get_workbench()
        viewer = Viewer(self.user.name, workbench.settings.show_queue_names)
        async for step in self._progress.follow():
            event = {
                "progress": step.percent,
                "message": step.message,
                "elapsed_seconds": round(step.elapsed_seconds, 2),
            }
            if step.place is not None:
                event["waiting"] = await build_wait_view(workbench, viewer, step.place)
            yield event

    # --- after the start

    async def poll(self) -> int | None:
        """Return None while the server runs or nobody knows, its exit code once Docker proved its end.

        That it runs is some seconds old: thousands of polls are one question. An end is told at once by ``notice_end``.
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
            is_listed = not self._has_lease_ended and self._lease_id in await workbench.running()
            status = None if is_listed else await controller.inspect(self._lease_id)
            if is_listed or (status is not None and status.is_running):
                return None
        except Unknown as error:
            self.log.warning("Nobody knows whether %s runs: %s", self._log_name, error)
            return None
        # what is left of it is removed; where that fails now the controller goes on trying
        await controller.release(self._lease_id, cause_of_end(status))
        self._exit_code = (status.exit_code if status is not None else None) or 0
        return self._exit_code

    async def poll_and_notify(self) -> int | None:
        """As JupyterHub's, but whoever asks while an end is being noticed waits for that.

        JupyterHub would let them start the server anew, and then stop that one with the old one.
        """
        if self._noticing is None or self._noticing.done():
            self._noticing = asyncio.create_task(super().poll_and_notify())
        status: int | None = await asyncio.shield(self._noticing)
        return status

    async def notice_end(self) -> None:
        """Let JupyterHub remove route and row of a server whose lease has ended."""
        self._has_lease_ended = True
        if self.ready:
            await self.poll_and_notify()

    def has_been_opened(self) -> bool:
        """Return whether its user came for the server whose turn they had waited for."""
        return self._ready_at is not None and has_been_opened(self, self._ready_at)

    async def stop(self, now: bool = False) -> None:
        """Give everything back; return only when Docker proved that the container is gone."""
        if self._lease_id is not None:
            # a server that never answered JupyterHub's own check is stopped by the hub, not by its user
            await asyncio.shield(
                self._close(Cause.FAILED if self._waiting_for_response else Cause.USER)
            )

    def run_post_stop_hook(self) -> object:
        """Revoke the server's token; a restarted JupyterHub does not know any more which one it was."""
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
