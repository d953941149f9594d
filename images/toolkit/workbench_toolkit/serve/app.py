"""HTTP application: ``/predict``, ``/health``, ``/metrics`` and ``/openapi.json`` of ``wb serve``.

Invalid requests are refused before the queue, with a status code, a reason and one sentence.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Depends, FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from workbench_toolkit.export.contract import Contract, TensorSpec
from workbench_toolkit.export.inputs import Array
from workbench_toolkit.serve import npz
from workbench_toolkit.serve.metrics import MeasureMiddleware, Metrics
from workbench_toolkit.serve.refusal import Reason, Refusal
from workbench_toolkit.serve.schema import JsonBodies, prediction_schema
from workbench_toolkit.serve.service import Service

_BEARER = HTTPBearer(auto_error=False, description="The token of the server.")
_JSON = "application/json"
_BYTES_PER_NUMBER = 64
_RETRY = {"headers": {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}}


class Problem(BaseModel):
    """The reason for a missing prediction."""

    reason: Literal[tuple(reason.word for reason in Reason)]  # type: ignore[valid-type]
    error: str


class Health(BaseModel):
    """The state of the model and its device."""

    status: Literal["ready", "restarting"]
    device: str


class TokenAuth:
    """Accepts requests with the server's token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def __call__(
        self, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
    ) -> None:
        """Raise Refusal for a missing or wrong token, in constant time."""
        given = credentials.credentials if credentials else ""
        if not hmac.compare_digest(given.encode(), self._token):
            raise Refusal(
                Reason.TOKEN,
                "Send the header `Authorization: Bearer TOKEN` with the server's token.",
            )


class Bodies:
    """The bodies of a model's requests and answers, in JSON and ``.npz``."""

    def __init__(self, contract: Contract, max_rows: int) -> None:
        self._outputs = [spec.name for spec in contract.outputs]
        self.json = JsonBodies(contract.inputs, max_rows)
        self._parsers: dict[str, Callable[[bytes], list[Array]]] = {
            _JSON: self.json.parse,
            npz.MEDIA_TYPE: npz.NpzBodies(contract.inputs, max_rows).parse,
        }
        numbers = sum(int(np.prod(spec.shape[1:])) for spec in contract.inputs)
        self.limit_bytes = 65536 + max_rows * numbers * _BYTES_PER_NUMBER

    async def read(self, request: Request) -> tuple[str, list[Array]]:
        """Return the request's media type and its arrays; raises Refusal."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in self._parsers:
            raise Refusal(Reason.TYPE, f"Send Content-Type {' or '.join(self._parsers)}.")
        return media_type, self._parsers[media_type](await self._bytes(request))

    async def _bytes(self, request: Request) -> bytes:
        too_large = Refusal(
            Reason.SIZE,
            f"The body is larger than {self.limit_bytes} bytes: send fewer rows at a time.",
        )
        declared = request.headers.get("content-length", "0")
        if declared.isascii() and declared.isdigit() and int(declared) > self.limit_bytes:
            raise too_large
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self.limit_bytes:
                    raise too_large
        except ClientDisconnect:
            raise Refusal(Reason.BODY, "The body ended early.") from None
        return bytes(body)

    def write(self, media_type: str, outputs: Sequence[Array]) -> bytes:
        """Return ``outputs`` as a body of ``media_type``."""
        if media_type == npz.MEDIA_TYPE:
            return npz.encode(dict(zip(self._outputs, outputs, strict=True)))
        columns = [output.tolist() for output in outputs]
        rows = [dict(zip(self._outputs, row, strict=True)) for row in zip(*columns, strict=True)]
        return to_json({"predictions": rows}, inf_nan_mode="null")


def build_app(
    contract: Contract,
    service: Service,
    metrics: Metrics,
    *,
    max_rows: int,
    token: str | None,
    on_failure: Callable[[], None],
) -> FastAPI:
    """Return the application; ``max_rows``: limit of one request, ``token``: None without authentication."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running(on_failure):
            yield

    app = FastAPI(
        title="Predictions",
        version=contract.version,
        description=_describe(contract),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(MeasureMiddleware, metrics=metrics, path="/predict")

    @app.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> JSONResponse:
        metrics.count_refusal(refusal.reason)
        headers = {503: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}
        return JSONResponse(
            {"reason": refusal.reason.word, "error": str(refusal)},
            refusal.reason.status,
            headers.get(refusal.reason.status),
        )

    guard = [Depends(TokenAuth(token))] if token is not None else []
    request_body = _add_predict(app, contract, service, max_rows, guard)
    _add_health(app, service)

    text: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
    }

    @app.get(
        "/metrics", dependencies=guard, response_class=Response, responses=_guarded(guard) | text
    )
    async def read_metrics() -> Response:
        """Return the metrics for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    # set afterwards, because FastAPI converts all bounds to floats, which are too small for int64
    app.openapi()["paths"]["/predict"]["post"]["requestBody"] = request_body
    return app


def _add_predict(
    app: FastAPI, contract: Contract, service: Service, max_rows: int, guard: list[Any]
) -> dict[str, Any]:
    """Add the path and return its request body for OpenAPI."""
    bodies = Bodies(contract, max_rows)
    file = {"schema": {"type": "string", "format": "binary"}}
    refusals: dict[int | str, dict[str, Any]] = {
        reason.status: {"model": Problem} for reason in Reason if reason is not Reason.TOKEN
    }
    refusals[503] |= _RETRY
    answer: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "One prediction per instance, in the format of the request",
            "content": {
                _JSON: {"schema": prediction_schema(contract.outputs)},
                npz.MEDIA_TYPE: file,
            },
        }
    }

    @app.post(
        "/predict",
        dependencies=guard,
        response_class=Response,
        responses=refusals | _guarded(guard) | answer,
    )
    async def predict(request: Request) -> Response:
        """Predict one row per instance."""
        media_type, arrays = await bodies.read(request)
        outputs = await service.predict(arrays)
        return Response(bodies.write(media_type, outputs), media_type=media_type)

    return {
        "required": True,
        "description": f"1 to {max_rows} rows, at most {bodies.limit_bytes} bytes",
        "content": {_JSON: {"schema": bodies.json.json_schema()}, npz.MEDIA_TYPE: file},
    }


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/health", responses={503: {"model": Health} | _RETRY})
    async def health(response: Response) -> Health:
        """Return 200 while the model can answer, else 503."""
        if service.is_ready:
            return Health(status="ready", device=service.device)
        response.status_code = 503
        response.headers["Retry-After"] = "1"
        return Health(status="restarting", device=service.device)


def _guarded(guard: list[Any]) -> dict[int | str, dict[str, Any]]:
    return {401: {"model": Problem}} if guard else {}


def _describe(contract: Contract) -> str:
    def list_specs(specs: Sequence[TensorSpec]) -> str:
        return ", ".join(f"`{spec}`" for spec in specs)

    return (
        f"Inputs: {list_specs(contract.inputs)}. Outputs: {list_specs(contract.outputs)}. "
        "The first size counts rows. NaN and infinity are refused in inputs and are null in JSON answers."
    )
