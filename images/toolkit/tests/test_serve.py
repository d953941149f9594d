"""Served model: the eager model's values for valid requests, one sentence for invalid ones."""

from __future__ import annotations

import concurrent.futures
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from serve_helpers import TEXT, Served, export_text, served, write_obedient


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module", params=["model.pt", "model.onnx"])
def text_server(exported: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(exported / request.param) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(write_obedient(tmp_path_factory.mktemp("obedient"))) as server:
        yield server


def eager(**inputs: np.ndarray) -> dict[str, np.ndarray]:
    namespace: dict[str, torch.nn.Module] = {}
    exec(TEXT, namespace)  # noqa: S102
    with torch.no_grad():
        outputs = namespace["model"](
            **{name: torch.from_numpy(array) for name, array in inputs.items()}
        )
    return {name: value.numpy() for name, value in outputs.items()}


def test_json_and_npz_give_the_eager_models_values(text_server: Served) -> None:
    generator = np.random.default_rng(1)
    inputs = {
        "ticket": generator.integers(-(2**63), 2**63 - 1, 5),
        "weight": generator.uniform(0.5, 2, 5).astype("float32"),
        "tokens": generator.integers(0, 50, (5, 6)),
    }
    expected = eager(**inputs)
    columns = [array.tolist() for array in inputs.values()]
    rows = [dict(zip(inputs, row, strict=True)) for row in zip(*columns, strict=True)]
    file = io.BytesIO()
    np.savez(file, **inputs)

    by_json = httpx.post(f"{text_server.url}/predict", json={"instances": rows})
    by_npz = httpx.post(
        f"{text_server.url}/predict",
        content=file.getvalue(),
        headers={"Content-Type": "application/x-npz"},
    )

    assert (by_json.status_code, by_npz.status_code) == (200, 200), (by_json.text, by_npz.text)
    predictions = by_json.json()["predictions"]
    with np.load(io.BytesIO(by_npz.content)) as arrays:
        for name, values in expected.items():
            np.testing.assert_allclose([row[name] for row in predictions], values, atol=1e-5)
            np.testing.assert_allclose(arrays[name], values, atol=1e-5)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("8", ""),
        ("8.0", ""),
        ("8e0", ""),
        ("8.5", "instances[0].tokens[0]: input should be a valid integer"),
        ("1e-42", "valid integer"),
        ("true", "valid integer"),
        ('"8"', "valid integer"),
        ("50", "less than or equal to 49"),
        ("-1", "greater than or equal to 0"),
        ("-1.0", "valid integer"),
        ("9" * 400, "less than or equal to 49"),
    ],
)
def test_whole_numbers_are_what_json_schema_means(
    text_server: Served, token: str, said: str
) -> None:
    tokens = f"[{token}, 1, 2, 3, 4, 5]"
    body = f'{{"instances": [{{"tokens": {tokens}, "weight": 1, "ticket": 1}}]}}'

    answer = httpx.post(
        f"{text_server.url}/predict", content=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == (422 if said else 200), answer.text
    assert said in answer.text


def test_what_json_lacks_is_null(text_server: Served) -> None:
    row = {"tokens": [1] * 6, "weight": 0.0, "ticket": 1}

    answer = httpx.post(f"{text_server.url}/predict", json={"instances": [row]})

    assert answer.json()["predictions"][0]["log"] is None


INSTANCE = '{"x": [1, 0]}'


@pytest.mark.parametrize(
    ("body", "status", "reason", "said"),
    [
        ("", 400, "body", "not JSON"),
        ("{", 400, "body", "not JSON"),
        ("[" * 5000, 400, "body", "not JSON"),
        ("[]", 422, "input", "the body"),
        ("{}", 422, "input", "instances: field required"),
        ('{"instances": []}', 422, "input", "at least 1 item"),
        (f'{{"instances": [{", ".join([INSTANCE] * 33)}]}}', 422, "input", "at most 32 items"),
        (
            '{"instances": [{"x": [1]}]}',
            422,
            "input",
            "instances[0].x: list should have at least 2",
        ),
        ('{"instances": [{"x": [1, 2, 3]}]}', 422, "input", "at most 2"),
        ('{"instances": [{"x": [1, [2]]}]}', 422, "input", "instances[0].x[1]"),
        ('{"instances": [{"x": [1, true]}]}', 422, "input", "valid number"),
        ('{"instances": [{"x": [1, "2"]}]}', 422, "input", "valid number"),
        ('{"instances": [{"x": [1, null]}]}', 422, "input", "valid number"),
        ('{"instances": [{"x": [1, NaN]}]}', 422, "input", "finite"),
        ('{"instances": [{"x": [1, -1e999]}]}', 422, "input", ""),
        ('{"instances": [{"x": [1, 1e39]}]}', 422, "input", "less than or equal"),
        (
            '{"instances": [{"x": [1, 0], "y": 1}]}',
            422,
            "input",
            "y: is not an input of this model",
        ),
        (f'{{"instances": [{INSTANCE}], "more": 1}}', 422, "input", "more: is not an input"),
        (" " * 100_000, 413, "size", "larger than"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_json_is_refused_with_one_sentence(
    server: Served, body: str, status: int, reason: str, said: str
) -> None:
    answer = httpx.post(
        f"{server.url}/predict", content=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == status, answer.text
    assert answer.json()["reason"] == reason
    assert said in answer.json()["error"]
    assert len(answer.json()["error"]) < 400


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\0" * 10_000_000)
    return file.getvalue()


def giant_header() -> bytes:
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        array, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2)}
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", array.getvalue())
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not a readable .npz"),
        (b"PK\x03\x04 no", 400, "not a readable .npz"),
        (npz(x=np.ones((1, 2), "float32"))[:-40], 400, "not a readable .npz"),
        (npz(y=np.ones((1, 2), "float32")), 422, "exactly these arrays: x"),
        (npz(x=np.ones((1, 2), "float64")), 422, "float64"),
        (npz(x=np.ones((1, 2), ">f4")), 422, ">f4"),
        (npz(x=np.ones((1, 3), "float32")), 422, "[1, 3]"),
        (npz(x=np.float32(1)), 422, "[]"),
        (npz(x=np.ones((0, 2), "float32")), 422, "1 to 32 rows"),
        (npz(x=np.ones((33, 2), "float32")), 422, "1 to 32 rows"),
        (npz(x=np.full((1, 2), np.nan, "float32")), 422, "NaN"),
        (npz(x=np.array([[print, 1]], dtype=object)), 422, "object"),
        (bomb(), 422, "larger than 32 rows"),
        (giant_header(), 422, "1 to 32 rows"),
    ],
    ids=range(14),
)
def test_bad_npz_is_refused_with_one_sentence(
    server: Served, body: bytes, status: int, said: str
) -> None:
    answer = httpx.post(
        f"{server.url}/predict", content=body, headers={"Content-Type": "application/x-npz"}
    )

    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]


def test_other_content_and_a_long_body_of_unknown_length_are_refused(server: Served) -> None:
    url = f"{server.url}/predict"

    assert (
        httpx.post(url, content=b"x=1", headers={"Content-Type": "text/plain"}).status_code == 415
    )
    assert httpx.post(url, content=b"{}").status_code == 415
    chunks = (b" " * 10_000 for _ in range(100))
    answer = httpx.post(url, content=chunks, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["reason"]) == (413, "size")


def test_clients_at_once_share_batches_and_get_each_their_own_answer(server: Served) -> None:
    batches = server.metric("wb_serve_batch_rows_count")
    rows = server.metric("wb_serve_batch_rows_sum")

    def client(number: int) -> None:
        with httpx.Client() as http:
            for turn in range(20):
                mine = [[number * 1000 + turn, 0], [-number - 1, 0]][: 1 + turn % 2]
                body = {"instances": [{"x": row} for row in mine]}
                answer = http.post(f"{server.url}/predict", json=body)
                assert answer.json()["predictions"] == [
                    {"doubled": [2 * row[0], 0], "positive": row[0] > 0} for row in mine
                ]

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(client, range(32)))

    assert server.metric("wb_serve_batch_rows_sum") - rows == 32 * 30
    assert server.metric("wb_serve_batch_rows_count") - batches < 32 * 20


def test_a_request_that_fails_harms_no_neighbour(server: Served) -> None:
    def predict(number: int) -> tuple[int, httpx.Response]:
        return number, server.predict([number, 13 if number % 8 == 0 else 0])

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for number, answer in pool.map(predict, range(64)):
            if number % 8 == 0:
                assert answer.status_code == 500
                assert "unlucky" in answer.json()["error"]
            else:
                assert answer.json()["predictions"][0]["doubled"] == [2 * number, 0]


def test_rows_that_look_at_their_neighbours_are_never_put_together(tmp_path: Path) -> None:
    with (
        served(write_obedient(tmp_path / "model", rows_independent=False)) as server,
        concurrent.futures.ThreadPoolExecutor(16) as pool,
    ):
        answers = list(pool.map(lambda _: server.predict([1, 0], [2, 0]), range(64)))

        assert {answer.status_code for answer in answers} == {200}
        assert server.metric("wb_serve_batch_rows_count") == 64


def test_a_token_guards_all_but_health(tmp_path: Path) -> None:
    with served(write_obedient(tmp_path / "model"), WB_SERVE_TOKEN="s3cret") as server:
        assert httpx.get(f"{server.url}/health").status_code == 200
        for value in (
            "",
            "Bearer",
            "Bearer wrong",
            "Basic s3cret",
            "Bearer s3cre",
            "Bearer s3cret\xff",
        ):
            headers = [(b"Authorization", value.encode("latin-1"))]
            for answer in (
                httpx.get(f"{server.url}/metrics", headers=headers),
                httpx.post(f"{server.url}/predict", content=b"{", headers=headers),
            ):
                assert answer.status_code == 401, value
                assert answer.json()["reason"] == "token"
                assert answer.headers["www-authenticate"] == "Bearer"
        assert server.predict([1, 0], headers={"Authorization": "Bearer s3cret"}).status_code == 200
        assert (
            httpx.get(
                f"{server.url}/metrics", headers={"Authorization": "Bearer s3cret"}
            ).status_code
            == 200
        )


def test_metrics_count_what_happened_and_labels_are_bounded(tmp_path: Path) -> None:
    with served(write_obedient(tmp_path / "model")) as server:
        server.predict([1, 0])
        server.predict([1, 13])
        for path in ("/predict/../x", "/some-word", "/predict?x=1"):
            httpx.get(f"{server.url}{path}")
        httpx.post(f"{server.url}/predict", content=b"{}")

        assert server.metric("wb_serve_requests_total", code="200") == 1
        assert server.metric("wb_serve_requests_total", code="500") == 1
        assert server.metric("wb_serve_errors_total", reason="model") == 1
        assert server.metric("wb_serve_errors_total", reason="content-type") == 1
        assert server.metric("wb_serve_request_seconds_count") == 4
        assert server.metric("wb_serve_queue_rows") == 0
        assert server.metric("wb_serve_worker_up") == 1
        assert server.metric("wb_serve_worker_restarts_total") == 0
        assert "some-word" not in httpx.get(f"{server.url}/metrics").text
