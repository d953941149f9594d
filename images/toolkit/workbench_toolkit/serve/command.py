"""Subcommand ``wb serve``: serves an exported model over HTTP.

SIGTERM and Ctrl-C let running requests finish, and end with exit code 0.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

from workbench_toolkit.errors import ToolError
from workbench_toolkit.export.contract import KINDS, Contract, hash_file, read_contract

TOKEN_VARIABLE = "WB_SERVE_TOKEN"  # noqa: S105 - the variable's name
HOST_VARIABLE = "WB_SERVE_HOST"
LOOPBACK = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="a folder written by `wb export`, or one model file in it",
    )
    parser.add_argument(
        "--host",
        default=os.environ.get(HOST_VARIABLE) or LOOPBACK,
        help="the address to listen on (%(default)s); 0.0.0.0: all addresses of this container; "
        f"{HOST_VARIABLE} sets it too",
    )
    parser.add_argument("--port", type=int, default=8000, help="the port (%(default)s)")
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE),
        help=f"the bearer token of all requests; {TOKEN_VARIABLE} keeps it out of process lists",
    )
    parser.add_argument(
        "--max-batch",
        type=int,
        default=32,
        metavar="ROWS",
        help="maximum number of rows in a batch (%(default)s)",
    )
    parser.add_argument(
        "--max-waiting",
        type=int,
        default=512,
        metavar="ROWS",
        help="maximum number of waiting rows (%(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="time limit of a request (%(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal arrives; return 1 when the model's process could not be restarted."""
    _check(arguments)
    # for the time before uvicorn's own handler, and for the signal that uvicorn raises again at its end
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    contract, kind, path = _choose(arguments.model)
    listener = _listen(arguments.host, arguments.port)
    return _serve(arguments, contract, kind, path, listener)


def _check(arguments: argparse.Namespace) -> None:
    token = arguments.token
    if token is not None and not (
        token and token.isascii() and token.isprintable() and " " not in token
    ):
        raise ToolError(
            "The token is empty or has other characters than printable ASCII: choose another."
        )
    if (
        arguments.max_batch < 1
        or arguments.max_waiting < arguments.max_batch
        or not 0 < arguments.timeout < 86400
    ):
        raise ToolError(
            "Give --max-batch of 1 or more, --max-waiting of --max-batch or more, and --timeout above 0."
        )
    if not 0 < arguments.port < 65536:
        raise ToolError("Give --port as a number from 1 to 65535.")


def _choose(model: Path) -> tuple[Contract, str, Path]:
    folder = model if model.is_dir() else model.parent
    contract = read_contract(folder)
    named = [kind for kind, name in KINDS.items() if name == model.name]
    kinds = [kind for kind in KINDS if kind in contract.files and (model.is_dir() or kind in named)]
    if not kinds:
        raise ToolError(
            f"{model} is not a model of {folder}, which has {', '.join(contract.files)}."
        )
    for name, declared in contract.files[kinds[0]].items():
        try:
            found = hash_file(folder / name)
        except OSError as error:
            raise ToolError(f"{folder / name} cannot be read: {error.strerror}.") from None
        if found != declared:
            raise ToolError(f"{folder / name} differs from model.json: export again.")
    return contract, kinds[0], folder / KINDS[kinds[0]]


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ToolError(
            f"{host}:{port} cannot be opened ({error.strerror or error}): choose another --host or --port."
        ) from None


def _serve(
    arguments: argparse.Namespace,
    contract: Contract,
    kind: str,
    path: Path,
    listener: socket.socket,
) -> int:
    try:
        import uvicorn

        from workbench_toolkit.serve.app import build_app
        from workbench_toolkit.serve.metrics import Metrics
        from workbench_toolkit.serve.service import Service
        from workbench_toolkit.serve.worker import Worker
    except ImportError as error:
        raise ToolError(f"{error.name} is not in this image: use the flavor serve.") from None
    metrics = Metrics()
    has_failed = False

    def on_failure() -> None:
        nonlocal has_failed
        has_failed = True
        server.should_exit = True

    service = Service(
        lambda: Worker(contract, kind, path),
        metrics,
        batch_rows=arguments.max_batch if contract.rows_independent else 1,
        waiting_rows=arguments.max_waiting,
        timeout_s=arguments.timeout,
    )
    app = build_app(
        contract,
        service,
        metrics,
        max_rows=arguments.max_batch,
        token=arguments.token,
        on_failure=on_failure,
    )
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=int(arguments.timeout) + 1,
    )
    server = uvicorn.Server(config)
    _print_summary(arguments, contract, kind, service.device)
    try:
        server.run(sockets=[listener])
    finally:
        service.end()
    return 1 if has_failed else 0


def _print_summary(
    arguments: argparse.Namespace, contract: Contract, kind: str, device: str
) -> None:
    access = (
        "with the token"
        if arguments.token
        else "without a token: every client that reaches this port gets predictions"
    )
    sys.stdout.write(
        f"{arguments.model} ({kind}): {device}\n"
        f"{', '.join(map(str, contract.inputs))} → {', '.join(map(str, contract.outputs))}\n"
        f"http://{arguments.host}:{arguments.port}/predict, {access}\n"
    )
    sys.stdout.flush()
