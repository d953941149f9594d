"""Server life cycle: dead workers, full queues, timeouts, signals and remaining processes."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from listeners import addresses_of
from serve_helpers import (
    Served,
    environment_of_toolkit,
    is_running,
    serve_command,
    served,
    wait_for,
    write_obedient,
)
from workbench_toolkit.export.contract import read_contract
from workbench_toolkit.export.inputs import Array
from workbench_toolkit.serve.app import build_app
from workbench_toolkit.serve.metrics import Metrics
from workbench_toolkit.serve.service import Service

ENDLESS = [1, -1]
SLOW = [1, 1000]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_obedient(tmp_path / "model")


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        yield pool


def occupy(
    server: Served, pool: concurrent.futures.ThreadPoolExecutor, row: Sequence[float] = ENDLESS
) -> concurrent.futures.Future[httpx.Response]:
    """Request a prediction of ``row``, and return once the model runs it."""
    before = server.metric("wb_serve_batch_rows_count")
    answer = pool.submit(server.predict, row)
    wait_for(lambda: server.metric("wb_serve_batch_rows_count") > before, "the model works")
    return answer


def test_a_dead_model_process_is_reported_and_restarted(
    folder: Path, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    with served(folder) as server:
        running = occupy(server, pool)
        first = server.worker
        os.kill(first, signal.SIGKILL)

        answer = running.result()
        wait_for(lambda: server.health() == 503, "health says that the model is away")
        assert server.metric("wb_serve_worker_up") == 0
        assert (answer.status_code, answer.json()["reason"]) == (503, "worker")
        assert answer.headers["retry-after"] == "1"
        # a request during the restart waits for the new process
        assert server.predict([3, 0]).json()["predictions"][0]["doubled"] == [6, 0]
        assert server.health() == 200
        assert server.metric("wb_serve_worker_restarts_total") == 1
        assert server.worker != first


def test_a_model_process_that_dies_idle_is_restarted(folder: Path) -> None:
    with served(folder) as server:
        os.kill(server.worker, signal.SIGKILL)

        wait_for(lambda: server.health() == 503, "health says that the model is away")
        wait_for(lambda: server.health() == 200, "the model is back")


def test_a_model_that_cannot_be_started_again_ends_the_server(folder: Path) -> None:
    with served(folder) as server:
        (folder / "model.pt").unlink()
        os.kill(server.worker, signal.SIGKILL)

        _, errors = server.process.communicate(timeout=60)

    assert server.process.returncode == 1
    assert "cannot be served" in errors


def test_a_full_queue_is_refused_at_once(
    folder: Path, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    with served(folder, "--max-batch", "2", "--max-waiting", "4") as server:
        running = occupy(server, pool)
        waiting = [pool.submit(server.predict, [number, 0]) for number in range(4)]
        wait_for(lambda: server.metric("wb_serve_queue_rows") == 4, "four rows wait")

        refused = server.predict([9, 0])

        assert (refused.status_code, refused.json()["reason"]) == (503, "queue")
        assert refused.headers["retry-after"] == "1"
        os.kill(server.worker, signal.SIGKILL)
        assert running.result().status_code == 503
        for number, answer in enumerate(waiting):
            assert answer.result().json()["predictions"][0]["doubled"] == [2 * number, 0]


def test_a_model_that_takes_too_long_is_ended_and_waiting_requests_are_answered(
    folder: Path, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    with served(folder, "--timeout", "1") as server:
        running = occupy(server, pool)
        first = server.worker

        answer = running.result()

        assert (answer.status_code, answer.json()["reason"]) == (504, "timeout")
        wait_for(lambda: not is_running(first), "the stuck process ends")
        wait_for(lambda: server.health() == 200, "a new process is there")
        assert server.predict([3, 0]).status_code == 200


class BrokenService(Service):
    """A service with an error in its own code, and without a model's process."""

    def __init__(self) -> None:
        pass

    async def predict(self, arrays: Sequence[Array]) -> list[Array]:
        raise ZeroDivisionError


def test_an_unexpected_error_is_counted(folder: Path) -> None:
    metrics = Metrics()
    app = build_app(
        read_contract(folder),
        BrokenService(),
        metrics,
        max_rows=2,
        token=None,
        on_failure=lambda: None,
    )
    client = TestClient(app, raise_server_exceptions=False)

    answer = client.post("/predict", json={"instances": [{"x": [1, 0]}]})

    assert answer.status_code == 500
    assert 'wb_serve_requests_total{code="500"} 1.0' in client.get("/metrics").text
    assert "wb_serve_request_seconds_count 1.0" in client.get("/metrics").text


def test_sigterm_finishes_what_runs_and_leaves_nothing(
    folder: Path, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    with served(folder) as server:
        worker = server.worker
        running = occupy(server, pool, SLOW)
        waiting = pool.submit(server.predict, [3, 0])
        wait_for(lambda: server.metric("wb_serve_queue_rows") == 1, "one row waits")

        server.process.send_signal(signal.SIGTERM)

        wait_for(lambda: not _accepts(server), "no new connection is accepted")
        assert not running.done()
        assert running.result().json()["predictions"][0]["doubled"] == [2, 2000]
        assert waiting.result().json()["predictions"][0]["doubled"] == [6, 0]
        server.process.communicate(timeout=60)
        assert server.process.returncode == 0
        wait_for(lambda: not is_running(worker), "the model's process ends")


def _accepts(server: Served) -> bool:
    address = httpx.URL(server.url)
    try:
        socket.create_connection((address.host, address.port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "address"), [("", "127.0.0.1"), ("0.0.0.0", "0.0.0.0")], ids=["default", "opened"]
)
def test_a_server_listens_on_loopback_unless_it_is_opened(
    folder: Path, host: str, address: str
) -> None:
    with served(folder, WB_SERVE_HOST=host) as server:
        assert addresses_of(server.process.pid) == {address}
        assert addresses_of(server.worker) == set()


@pytest.mark.parametrize("row", [[1, 0], ENDLESS], ids=["idle", "busy"])
def test_a_server_that_is_killed_leaves_no_model_process(
    folder: Path, pool: concurrent.futures.ThreadPoolExecutor, row: list[float]
) -> None:
    with served(folder) as server:
        worker = server.worker
        running = occupy(server, pool, row)
        server.process.kill()

        wait_for(lambda: not is_running(worker), "the model's process ends")
        running.exception()


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda folder: (folder / "model.json").unlink(), "model.json does not exist"),
        (lambda folder: (folder / "model.json").write_text("{"), "export again"),
        (lambda folder: (folder / "model.pt").unlink(), "cannot be read"),
        (lambda folder: (folder / "model.pt").write_bytes(b"x"), "differs from model.json"),
    ],
)
def test_a_broken_model_is_one_sentence(
    folder: Path, break_it: Callable[[Path], object], sentence: str
) -> None:
    break_it(folder)

    ended = _run(serve_command(folder))

    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--token", ""], "The token is empty"),
        (["--token", "a b"], "printable ASCII"),
        (["--max-batch", "0"], "Give --max-batch of 1 or more"),
        (["--max-batch", "8", "--max-waiting", "4"], "--max-waiting"),
        (["--timeout", "nan"], "--timeout"),
        (["--port", "70000"], "Give --port as a number"),
        (["--host", "192.0.2.1"], "cannot be opened"),
    ],
)
def test_a_bad_setting_is_one_sentence(folder: Path, words: list[str], sentence: str) -> None:
    ended = _run(serve_command(folder, *words))

    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_file_that_is_no_model_is_one_sentence(folder: Path) -> None:
    from workbench_toolkit.export.contract import hash_file

    text = (folder / "model.json").read_text()
    good = hash_file(folder / "model.pt")
    (folder / "model.pt").write_bytes(b"no model")
    (folder / "model.json").write_text(text.replace(good, hash_file(folder / "model.pt")))

    ended = _run(serve_command(folder, "--port", "18499"))

    assert ended.returncode == 2
    assert "cannot be served" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = environment_of_toolkit()
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
