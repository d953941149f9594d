"""Refusals: turn a ``Refused`` into JupyterHub's SpawnException or into a REST error, each with one sentence.

REST answer, form, pending page and progress stream show the same sentence; the status code follows from the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from jupyterhub.spawner import SpawnException
from tornado import web

from spawner.hub.metrics import count_refusal
from spawner.hub.unavailable import RETRY_HEADERS, Unavailable
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
    Reason.NOT_APPROVED: HTTPStatus.FORBIDDEN,
    Reason.GIVEN_UP: HTTPStatus.CONFLICT,
    Reason.OTHERS_WAIT: HTTPStatus.CONFLICT,
    Reason.NO_LEASE: HTTPStatus.CONFLICT,
    Reason.UNKNOWN_LEASE: HTTPStatus.NOT_FOUND,
    Reason.GPU_FAILED: HTTPStatus.CONFLICT,
    Reason.NO_QUARANTINE: HTTPStatus.NOT_FOUND,
    Reason.NO_GPU: HTTPStatus.NOT_FOUND,
    Reason.DRAINED: HTTPStatus.CONFLICT,
    Reason.NO_HOME: HTTPStatus.NOT_FOUND,
    Reason.HOME_IN_USE: HTTPStatus.CONFLICT,
    Reason.NO_DRAIN: HTTPStatus.NOT_FOUND,
    Reason.CANNOT_MOVE: HTTPStatus.CONFLICT,
    Reason.ALREADY_HELD: HTTPStatus.CONFLICT,
    Reason.NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.HOME_FULL: HTTPStatus.CONFLICT,
    Reason.TOO_MANY_STARTS: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.IMAGE_MISSING: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.START_FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class SpawnRefused(SpawnException):  # type: ignore[misc]
    """A spawn that does not happen: a SpawnException whose sentence every page of JupyterHub shows."""

    def __init__(self, refused: Refused) -> None:
        """Count ``refused`` and keep its sentence, reason and status code."""
        count_refusal(refused)
        super().__init__(
            refused.message, reason=refused.reason.value, status_code=STATUS[refused.reason].value
        )
        # JupyterHub's pages read this attribute; SpawnException itself does not set it
        self.jupyterhub_message = refused.message
        if self.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            self.headers = RETRY_HEADERS


def to_http_error(refused: Refused) -> web.HTTPError:
    """Count ``refused`` and return it as the error of a REST handler."""
    count_refusal(refused)
    status = STATUS[refused.reason]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        return Unavailable(refused.message)
    return web.HTTPError(status.value, "%s", refused.message)


def without_traceback() -> Callable[[logging.LogRecord], bool]:
    """Return a log filter that replaces the traceback of a refusal by its sentence.

    JupyterHub logs a traceback with every form that it sends back.
    """
    return _drop_traceback


def _drop_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, web.HTTPError) and (
        isinstance(error, SpawnRefused) or error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    ):
        record.msg, record.args = "%s: %s", (record.getMessage(), error.get_message())
        record.exc_info = record.exc_text = None
    return True
