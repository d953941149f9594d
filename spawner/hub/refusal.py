"""A spawn that does not happen, as JupyterHub shows it: one sentence, a reason of the closed list, a status code.

The sentence reaches the REST answer, the form, the pending page and the progress stream unchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from jupyterhub.spawner import SpawnException
from tornado import web

from spawner.hub.metrics import count_refusal
from spawner.hub.unavailable import RETRY_AFTER_SECONDS
from spawner.model import Reason, Refused

STATUS = {
    Reason.INVALID_OPTIONS: HTTPStatus.BAD_REQUEST,
    Reason.UNKNOWN_RELEASE: HTTPStatus.BAD_REQUEST,
    Reason.NOT_ENOUGH_GPUS: HTTPStatus.BAD_REQUEST,
    Reason.INCOMPATIBLE: HTTPStatus.CONFLICT,
    Reason.OVER_QUOTA: HTTPStatus.CONFLICT,
    Reason.GROUP_FULL: HTTPStatus.CONFLICT,
    Reason.OVER_GPU_HOURS: HTTPStatus.CONFLICT,
    Reason.RELEASE_NOT_ALLOWED: HTTPStatus.CONFLICT,
    Reason.TOO_LONG: HTTPStatus.CONFLICT,
    Reason.GIVEN_UP: HTTPStatus.CONFLICT,
    Reason.OTHERS_WAIT: HTTPStatus.CONFLICT,
    Reason.NO_LEASE: HTTPStatus.CONFLICT,
    Reason.GPU_FAILED: HTTPStatus.CONFLICT,
    Reason.NO_QUARANTINE: HTTPStatus.NOT_FOUND,
    Reason.NO_GPU: HTTPStatus.NOT_FOUND,
    Reason.DRAINED: HTTPStatus.CONFLICT,
    Reason.NO_DRAIN: HTTPStatus.NOT_FOUND,
    Reason.CANNOT_MOVE: HTTPStatus.CONFLICT,
    Reason.ALREADY_HELD: HTTPStatus.CONFLICT,
    Reason.NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.IMAGE_MISSING: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.START_FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class SpawnRefused(SpawnException):  # type: ignore[misc]
    """A SpawnException whose sentence every page of JupyterHub shows."""

    def __init__(self, refused: Refused) -> None:
        """Carry ``refused`` to the person who asked, and count it."""
        count_refusal(refused)
        super().__init__(
            refused.message, reason=refused.reason.value, status_code=STATUS[refused.reason].value
        )
        # the attribute that JupyterHub's pages look for; SpawnException itself does not set it
        self.jupyterhub_message = refused.message
        if self.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            # JupyterHub sets them where it writes the error
            self.headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}


def to_http_error(refused: Refused) -> web.HTTPError:
    """Return the answer of the REST API to what is refused, and count it."""
    count_refusal(refused)
    return web.HTTPError(STATUS[refused.reason].value, refused.message)


def without_traceback() -> Callable[[logging.LogRecord], bool]:
    """Return a filter that gives the log, of an answer meant for the person who asked, its sentence alone.

    JupyterHub logs a traceback with every form that it sends back.
    """
    return _say_without_traceback


def _say_without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, web.HTTPError) and (
        isinstance(error, SpawnRefused) or error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    ):
        record.msg, record.args = "%s: %s", (record.getMessage(), error.get_message())
        record.exc_info = record.exc_text = None
    return True
