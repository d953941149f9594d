"""One server of one user, as JupyterHub sees it.

A thin shell over the controller: a server is gone only when Docker proved it, and a spawn that fails has given
everything back before its user is told.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any

from jupyterhub import orm
from jupyterhub.spawner import Spawner
from jupyterhub.traitlets import Callable
from traitlets import Integer

from spawner.hub.form import render_form
from spawner.hub.knock import say_end, wait_until_open
from spawner.hub.progress import Progress
from spawner.hub.refusal import Refusal
from spawner.model import (
    Cause,
    Gpu,
    GpuHealth,
    Granted,
    LaunchError,
    Lease,
    Options,
    OptionsError,
    Reason,
    Refused,
    Request,
    Unknown,
)
from spawner.policy.words import count_gpus

RETRY_SECONDS = 1.0


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
    _token_id: int | None
    _gpus: tuple[Gpu, ...]
    _is_starting: bool
    _exit_code: int | None
    _closing: asyncio.Task[None] | None
    _progress: Progress

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Begin with no lease; JupyterHub then calls ``load_state``."""
        self._forget()
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
        if self._lease_id is not None:
            state |= {
                "lease_id": self._lease_id,
                "host": self._host,
                "token_id": self._token_id,
                "gpus": [asdict(gpu) for gpu in self._gpus],
            }
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up the server that an earlier hub started."""
        super().load_state(state)
        if "lease_id" in state:
            self._lease_id, self._host = state["lease_id"], state["host"]
            self._token_id = state["token_id"]
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
        self._token_id = None
        self._gpus = ()
        self._is_starting = False
        self._exit_code = None
        self._closing = None
        self._progress = Progress()

    # --- options: every door ends in ``start``, which asks the one schema

    def options_from_form(self, form_data: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return the form's fields as the values they stand for; raises Refusal before anything is created."""
        options: dict[str, Any] = {
            key: values[0] if len(values) == 1 else values
            for key, values in form_data.items()
            if key != "_xsrf"
        }
        gpus = options.get("gpus")
        if isinstance(gpus, str) and gpus.isascii() and gpus.isdecimal() and len(gpus) < 10:
            options["gpus"] = int(gpus)
        self._parse(options)
        return options

    def options_from_query(self, query_data: Mapping[str, list[str]]) -> dict[str, Any]:
        """Refuse: any page of the web can hold a link, and following one must not claim GPUs."""
        raise Refusal(
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
            raise Refusal(Refused(Reason.INVALID_OPTIONS, str(error))) from error
        return options

    # --- start

    async def start(self) -> str:
        """Claim, launch and wait; return the server's URL or raise Refusal with everything given back."""
        workbench = self.get_workbench()
        options = self._parse(self.user_options)
        self._accepted_options = self.user_options
        answer = await self._acquire(Request(self.user.name, self.name, options))
        if isinstance(answer, Refused):
            raise Refusal(answer)
        lease = answer.lease
        self._lease_id, self._is_starting = lease.id, True
        cause: Cause | None = Cause.FAILED
        try:
            async with asyncio.timeout(self.answer_timeout):
                await self._bring_up(lease)
            self._remember()
            await workbench.controller.confirm(lease.id)
            cause = None
        except asyncio.CancelledError:
            cause = Cause.USER
            raise
        except TimeoutError as error:
            raise self._failed_to_start(
                f"Your server did not answer within {self.answer_timeout} s: try again, or tell an admin."
            ) from error
        except (LaunchError, Unknown) as error:
            raise self._failed_to_start(str(error)) from error
        finally:
            self._is_starting = False
            self._progress.finish()
            if cause is not None:
                # JupyterHub stops what failed to start, and ``stop`` waits for this
                self._close(cause)
        return await self.get_url()

    async def _acquire(self, request: Request) -> Granted | Refused:
        controller = self.get_workbench().controller
        acquiring = asyncio.ensure_future(controller.acquire(request))
        try:
            return await asyncio.shield(acquiring)
        except asyncio.CancelledError:
            # given up meanwhile; the claim may still be made, and nobody else would know of it
            self._closing = asyncio.create_task(self._give_back(acquiring))
            raise

    async def _give_back(self, acquiring: asyncio.Future[Granted | Refused]) -> None:
        answer = await acquiring
        if isinstance(answer, Granted):
            await self._release(answer.lease.id, Cause.USER)

    async def _bring_up(self, lease: Lease) -> None:
        controller = self.get_workbench().controller
        self._gpus = await self._name_gpus(lease)
        self._progress.report(10, self._say_granted(lease))
        self._host = await controller.launch(lease, self.get_env(), self._progress.report)
        self._progress.report(70, "Waiting for JupyterLab to answer")
        await wait_until_open(self._host, self.port, functools.partial(self._check_alive, lease))
        self._progress.report(95, "JupyterLab answers: opening it")

    async def _check_alive(self, lease: Lease) -> None:
        controller = self.get_workbench().controller
        status = await controller.look(lease.id)
        if status is None or not status.is_running:
            said = await controller.log_tail(lease) if status is not None else ""
            raise LaunchError(say_end(status, said))

    async def _name_gpus(self, lease: Lease) -> tuple[Gpu, ...]:
        if not lease.gpu_uuids:
            return ()
        offer = await self.get_workbench().controller.offer(lease.user)
        return tuple(o.gpu for o in offer.gpus if o.gpu.uuid in lease.gpu_uuids)

    def _say_granted(self, lease: Lease) -> str:
        if not lease.gpu_uuids:
            return "Claimed a place without GPUs"
        named = ", ".join(f"GPU {gpu.index}: {gpu.name}" for gpu in self._gpus)
        return f"Claimed {count_gpus(len(lease.gpu_uuids))} ({named or 'names unknown'})"

    def _remember(self) -> None:
        """Store the state now: JupyterHub does it after ``start``, and a hub that dies in between would forget."""
        token = orm.APIToken.find(self.user.db, self.api_token)
        self._token_id = None if token is None else token.id
        self.orm_spawner.state = self.get_state()
        self.user.db.commit()

    def _failed_to_start(self, sentence: str) -> Refusal:
        return Refusal(Refused(Reason.START_FAILED, sentence))

    async def get_url(self) -> str:
        """Return where the proxy reaches this server."""
        return f"http://{self._host}:{self.port}{self.server.base_url}"

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the steps of this spawn to one viewer, from the first on."""
        async for step in self._progress.follow():
            yield {
                "progress": step.percent,
                "message": step.message,
                "elapsed_seconds": round(step.elapsed_seconds, 2),
            }

    # --- after the start

    async def poll(self) -> int | None:
        """Return None while the server runs or nobody knows, its exit code once Docker proved its end."""
        if self._lease_id is None:
            return 0
        if self._is_starting:
            return None
        if self._exit_code is not None:
            return self._exit_code
        if self._closing is not None:
            return 0 if self._closing.done() else None
        controller = self.get_workbench().controller
        try:
            status = await controller.look(self._lease_id)
        except Unknown as error:
            self.log.warning("Nobody knows whether %s runs: %s", self._log_name, error)
            return None
        if status is not None and status.is_running:
            return None
        # what is left of it is removed; where that fails now the controller goes on trying
        await controller.release(self._lease_id, Cause.LOST if status is None else Cause.EXITED)
        self._exit_code = (status.exit_code if status is not None else None) or 0
        return self._exit_code

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
            self._closing = asyncio.create_task(self._release(str(self._lease_id), cause))
        return self._closing

    async def _release(self, lease_id: str, cause: Cause) -> None:
        controller = self.get_workbench().controller
        while True:
            try:
                if await controller.release(lease_id, cause):
                    return
            except Exception:  # ending here would tell JupyterHub that the server is gone
                self.log.exception("Still stopping %s", self._log_name)
            await asyncio.sleep(RETRY_SECONDS)
