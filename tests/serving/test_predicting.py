from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fitted import Fitted
from waiting import wait_until

import mlnb
from mlnb import Deployment
from mlnb.serving.app import _Predict, create_app
from mlnb.serving.codecs import decode
from mlnb.serving.hosts import KernelHost
from mlnb.workspace import _workspace

OWN = ("content-length", "date", "server", "connection", "x-request-id")  # headers that may differ


@pytest.fixture
def deployment(tumour: Fitted) -> Deployment:
    return mlnb.deploy(tumour.model, name="tumour", example=tumour.rows)


def host() -> KernelHost:
    found = _workspace._hosting._host
    assert isinstance(found, KernelHost)
    return found


def fast(path: str, **given: Any) -> httpx.Response:
    """Ask through the socket."""
    return httpx.post(f"{_workspace._hosting.url}{path}", timeout=30, **given)


def through_asgi(path: str, **given: Any) -> httpx.Response:
    """Ask the app itself, on the server's loop."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(host().gateway.served), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post(path, timeout=30, **given)

    loop = host().server.loop
    assert loop is not None
    return asyncio.run_coroutine_threadsafe(ask(), loop).result(30)


def without_request_id(answer: httpx.Response) -> bytes:
    identity = answer.headers.get("x-request-id")
    if identity is not None:
        return answer.content.replace(identity.encode(), b"")
    return re.sub(rb'"request_id": ?"[0-9a-f]{12}"', b"", answer.content)


def both(path: str, **given: Any) -> httpx.Response:
    """Ask on both ways, which must say the same to the byte; return what the fast one said."""
    one, other = fast(path, **given), through_asgi(path, **given)
    assert one.status_code == other.status_code
    assert without_request_id(one) == without_request_id(other)
    headers = [{name: value for name, value in each.headers.items() if name not in OWN} for each in (one, other)]
    assert headers[0] == headers[1]
    assert ("x-request-id" in one.headers) is ("x-request-id" in other.headers)
    assert int(one.headers["content-length"]) == len(one.content)
    return one


def npy(rows: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(rows))
    return file.getvalue()


def arrow_stream(rows: Any) -> bytes:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def arrow_file(rows: Any) -> bytes:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


BODIES: dict[str, Callable[[Any], bytes]] = {
    "application/json": lambda rows: json.dumps({"instances": rows.to_numpy().tolist()}).encode(),
    "text/csv": lambda rows: rows.to_csv(index=False).encode(),
    "application/x-npy": lambda rows: npy(rows.to_numpy()),
    "application/vnd.apache.arrow.stream": arrow_stream,
    "application/vnd.apache.arrow.file": arrow_file,
}
ACCEPTED = ("application/json", "text/csv", "application/vnd.apache.arrow.stream", "*/*", "")


def test_requests_through_the_socket_do_not_pass_asgi(
    deployment: Deployment, tumour: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("not this way")

    monkeypatch.setattr(_Predict, "__call__", fail)
    for path in ("/predict", "/models/tumour/predict", "/models/tumour/predict?probabilities=1"):
        assert fast(path, json={"features": tumour.lists[0]}).status_code == 200


@pytest.mark.parametrize("content_type", BODIES)
def test_both_ways_answer_the_same(deployment: Deployment, tumour: Fitted, content_type: str) -> None:
    body = BODIES[content_type](tumour.rows[:7])
    for accept, probabilities in product(ACCEPTED, (False, True)):
        flag = "?probabilities=true" if probabilities else ""
        answer = both(
            f"/models/tumour/predict{flag}", content=body, headers={"content-type": content_type, "accept": accept}
        )
        assert answer.status_code == 200
        if accept in ("application/json", "*/*", ""):
            document = answer.json()
            assert document["prediction"] == tumour.predictions[:7].tolist()
            given = document.get("probabilities")
            assert given == (tumour.model.predict_proba(tumour.rows[:7]).tolist() if probabilities else None)
        else:
            assert answer.headers["content-type"] == accept
            assert (answer.headers["x-model"], answer.headers["x-model-version"]) == ("tumour", "1")
            assert len(answer.headers["x-request-id"]) == 12


def test_numbers_are_answered_as_npy_too(diabetes: Fitted) -> None:
    with mlnb.deploy(diabetes.model, name="diabetes", example=diabetes.rows):
        for content_type, body in BODIES.items():
            headers = {"content-type": content_type, "accept": "application/x-npy"}
            answer = both("/predict", content=body(diabetes.rows[:9]), headers=headers)
            assert answer.headers["content-type"] == "application/x-npy"
            np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), diabetes.predictions[:9])


def test_large_bodies_too(digits: Fitted) -> None:
    """They are read on another thread."""
    with mlnb.deploy(digits.model, name="digits", example=digits.rows):
        for rows in (digits.rows[:50], digits.rows):
            for content in (npy(rows), npy(np.asfortranarray(rows))):
                answer = both("/predict", content=content, headers={"content-type": "application/x-npy"})
                assert answer.json()["prediction"] == digits.model.predict(rows).tolist()
        assert both("/predict", content=b"{" + b" " * 2**19).status_code == 400
        assert both("/predict", json={"instances": [[0.0] * 63] * 5000}).status_code == 422


V2 = "/v2/models/tumour/infer"


def infer(rows: list[list[float]], **changes: Any) -> dict[str, Any]:
    flat = [value for row in rows for value in row]
    tensor = {"name": "rows", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": flat}
    return {"id": "mine", "inputs": [tensor | changes]}


def test_version_2_of_the_protocol(deployment: Deployment, tumour: Fitted) -> None:
    for path in (V2, "/v2/models/tumour/versions/1/infer"):
        answer = both(path, json=infer(tumour.lists[:3]))
        assert answer.status_code == 200
        document = answer.json()
        assert (document["id"], document["model_name"], document["model_version"]) == ("mine", "tumour", "1")
        assert document["outputs"][0]["data"] == tumour.predictions[:3].tolist()


def test_its_binary_tensors(deployment: Deployment, tumour: Fitted) -> None:
    rows = tumour.rows[:3].to_numpy()
    document = infer(rows.tolist())
    tensor = document["inputs"][0]
    del tensor["data"]
    tensor["parameters"] = {"binary_data_size": rows.nbytes}
    document["parameters"] = {"binary_data_output": True}
    head = json.dumps(document).encode()
    answer = both(V2, content=head + rows.tobytes(), headers={"inference-header-content-length": str(len(head))})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:length])["model_name"] == "tumour"


ERRORS: list[tuple[str, str, dict[str, Any], int]] = [
    ("no JSON", "/predict", {"content": b"hello"}, 400),
    ("no body", "/predict", {"content": b""}, 400),
    ("no object", "/predict", {"json": [1]}, 422),
    ("too few values", "/predict", {"json": {"features": [1.0]}}, 422),
    ("text for a number", "/predict", {"json": {"features": ["x"] * 30}}, 422),
    ("an unknown field", "/predict", {"json": {"instances": [{"radius": 1.0}]}}, 422),
    ("no rows", "/predict", {"json": {"instances": []}}, 422),
    ("too many rows", "/predict", {"json": {"instances": [[]] * 100_001}}, 413),
    ("another flag", "/predict?probabilities=maybe", {"json": {"features": [1.0] * 30}}, 400),
    ("a flag in the body", "/predict", {"json": {"features": [1.0] * 30, "probabilities": 1}}, 422),
    ("no such type", "/predict", {"content": b"<x/>", "headers": {"content-type": "text/xml"}}, 415),
    ("packed", "/predict", {"content": b"{}", "headers": {"content-encoding": "br"}}, 415),
    ("no such answer", "/predict", {"json": {"features": [1.0] * 30}, "headers": {"accept": "image/png"}}, 406),
    ("a bad time", "/predict", {"json": {"features": [1.0] * 30}, "headers": {"x-request-timeout": "soon"}}, 400),
    ("no time", "/predict", {"json": {"features": [1.0] * 30}, "headers": {"x-request-timeout": "0"}}, 400),
    ("NaN seconds", "/predict", {"json": {"features": [1.0] * 30}, "headers": {"x-request-timeout": "nan"}}, 400),
    ("a day", "/predict", {"json": {"features": [1.0] * 30}, "headers": {"x-request-timeout": "86400"}}, 400),
    ("no npy", "/predict", {"content": b"x", "headers": {"content-type": "application/x-npy"}}, 400),
    ("no Arrow", "/predict", {"content": b"x", "headers": {"content-type": "application/vnd.apache.arrow.file"}}, 400),
    ("no CSV", "/predict", {"content": b"\xff", "headers": {"content-type": "text/csv"}}, 400),
    ("another charset", "/predict", {"content": b"1", "headers": {"content-type": "text/csv; charset=utf-16"}}, 415),
    ("v2: no JSON", V2, {"content": b"{"}, 400),
    ("v2: no inputs", V2, {"json": {}}, 422),
    ("v2: a bad length", V2, {"content": b"{}", "headers": {"inference-header-content-length": "ten"}}, 400),
    ("v2: no such type", V2, {"json": infer([[1.0] * 30], datatype="FP8")}, 422),
    ("v2: a wrong shape", V2, {"json": infer([[1.0] * 29])}, 422),
    ("v2: not live", "/v2/models/tumour/versions/7/infer", {"json": infer([[1.0] * 30])}, 404),
    ("v2: not deployed", "/v2/models/tumor/infer", {"json": {}}, 404),
    ("not deployed", "/models/tumor/predict", {"json": {}}, 404),
    ("no such path", "/models/predict", {"json": {}}, 405),
    ("a path within the name", "/models/tum%2Four/predict", {"json": {}}, 404),
]  # fmt: skip


@pytest.mark.parametrize(("path", "given", "status"), [case[1:] for case in ERRORS], ids=[case[0] for case in ERRORS])
def test_both_ways_refuse_the_same(deployment: Deployment, path: str, given: dict[str, Any], status: int) -> None:
    answer = both(path, **given)
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["title"]
    assert document["detail"]
    assert (answer.status_code, document["status"]) == (status, status)
    assert ("error" in document) is path.startswith("/v2")
    if status not in (404, 405):  # which are no requests to a deployment
        assert len(document["request_id"]) == 12


def test_with_several_models_one_is_named(deployment: Deployment, digits: Fitted) -> None:
    with mlnb.deploy(digits.model, name="digits", example=digits.rows):
        answer = both("/predict", json={"features": [0.0] * 64})
        assert (answer.status_code, answer.json()["models"]) == (409, ["digits", "tumour"])
        assert both("/models/digits/predict", json={"features": [0.0] * 64}).status_code == 200


@pytest.mark.parametrize("flag", ["", "=", "=1", "=true", "=TRUE", "=0", "=false", "=no"])
def test_the_flag_for_probabilities(deployment: Deployment, tumour: Fitted, flag: str) -> None:
    answer = both(f"/predict?probabilities{flag}", json={"features": tumour.lists[0]})
    if flag in ("=TRUE", "=no"):
        assert answer.status_code == 400
    else:
        assert ("probabilities" in answer.json()) is (flag not in ("=0", "=false"))


def test_probabilities_of_a_model_that_has_none(diabetes: Fitted) -> None:
    with mlnb.deploy(diabetes.model, name="diabetes", example=diabetes.rows):
        answer = both("/predict?probabilities=1", json={"features": diabetes.lists[0]})
        assert answer.status_code == 422
        assert "gives no probabilities" in answer.json()["detail"]


class Held:
    """Predicts zeros as soon as it may."""

    def predict(self, rows: Any) -> Any:
        if not (rows == 0).all():
            ENTERED.set()
            MAY_GO.wait(20)
        return np.zeros(len(rows))


ENTERED, MAY_GO = threading.Event(), threading.Event()


def test_a_request_says_how_long_it_waits() -> None:
    ENTERED.clear()
    MAY_GO.clear()
    with mlnb.deploy(Held(), name="held", example=[[0.0]]) as held, ThreadPoolExecutor(1) as pool:
        first = pool.submit(fast, "/predict", json={"features": [1.0]})
        assert ENTERED.wait(10)
        answer = both("/predict", json={"features": [0.0]}, headers={"X-Request-Timeout": "0.02"})
        assert (answer.status_code, answer.json()["title"]) == (504, "Too late")
        MAY_GO.set()
        assert first.result(10).status_code == 200
        answer = both("/predict", json={"features": [0.0]}, headers={"X-Request-Timeout": "20"})
        assert answer.status_code == 200
        assert held.metrics().errors == 2


def test_who_is_refused_is_told_when_to_come_again() -> None:
    ENTERED.clear()
    MAY_GO.clear()
    with mlnb.deploy(Held(), name="held", example=[[0.0]]), ThreadPoolExecutor(4) as pool:
        first = [pool.submit(fast, "/predict", json={"features": [1.0]})]
        assert ENTERED.wait(10)
        pool_of = host().gateway.served["held"].service.live.pool
        many = npy(np.zeros((90_000, 1)))
        first += [pool.submit(fast, "/predict", content=many, headers={"content-type": "application/x-npy"})] * 1
        first += [pool.submit(fast, "/predict", content=many, headers={"content-type": "application/x-npy"})] * 1
        wait_until(lambda: pool_of._waiting_rows == 180_000)
        answer = both("/predict", content=many[:-8] + many[-8:], headers={"content-type": "application/x-npy"})
        assert (answer.status_code, answer.json()["title"]) == (503, "Overloaded")
        assert int(answer.headers["retry-after"]) == answer.json()["retry_after"] >= 1
        MAY_GO.set()
        assert [one.result(20).status_code for one in first] == [200] * 3


def test_what_a_client_that_left_asked_is_not_computed() -> None:
    ENTERED.clear()
    MAY_GO.clear()
    with mlnb.deploy(Held(), name="held", example=[[0.0]]) as held, ThreadPoolExecutor(1) as pool:
        first = pool.submit(fast, "/predict", json={"features": [1.0]})
        assert ENTERED.wait(10)
        waiting = host().gateway.served["held"].service.live.pool._waiting
        body = b'{"features": [0.0]}'
        with socket.create_connection(("127.0.0.1", host().server.port)) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            wait_until(lambda: len(waiting) == 1)
        wait_until(lambda: all(job.gone() for job in waiting))
        MAY_GO.set()
        assert first.result(10).status_code == 200
        assert fast("/predict", json={"features": [0.0]}).status_code == 200
        assert held.snapshot().replicas[0].rows == 2
        assert held.metrics().requests == 2


class Difference:
    """Predicts a - b, by the columns' names."""

    def predict(self, rows: Any) -> Any:
        return (rows["a"] - rows["b"]).to_numpy()


@pytest.mark.parametrize("content_type", ["text/csv", "application/json"])
def test_a_large_body_that_is_read_while_the_version_changes(
    monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    """The columns of the next version are others, or in another order."""
    reading, may_go = threading.Event(), threading.Event()

    def slow(*arguments: Any, **given: Any) -> Any:
        query = decode(*arguments, **given)
        reading.set()
        may_go.wait(10)
        return query

    rows = pd.DataFrame({"a": np.arange(60_000.0), "b": np.ones(60_000)})
    body = {
        "text/csv": rows.to_csv(index=False),
        "application/json": json.dumps({"instances": rows.to_dict("records")}),
    }
    with (
        mlnb.deploy(Difference(), name="difference", example=rows[:2]),
        ThreadPoolExecutor(1) as pool,
    ):
        monkeypatch.setattr("mlnb.serving.predicting.decode", slow)
        asking = pool.submit(fast, "/predict", content=body[content_type], headers={"content-type": content_type})
        assert reading.wait(10)
        mlnb.deploy(Difference(), name="difference", example=rows[:2][["b", "a"]])
        may_go.set()
        answer = asking.result(30).json()
        assert answer["version"] == 2
        assert answer["prediction"] == (rows["a"] - rows["b"]).tolist()


class Odd:
    """Answers with a whole number beyond 64 bits and a missing one, which JSON of whole batches cannot hold."""

    def predict(self, rows: Any) -> Any:
        return np.array([2**70 if row[0] == 0 else float("nan") for row in rows], dtype=object)


@pytest.mark.filterwarnings("ignore")
def test_an_answer_that_cannot_be_written_is_the_models_failure(caplog: pytest.LogCaptureFixture) -> None:
    with mlnb.deploy(Odd(), name="odd", example=[[0.0]]):
        answer = both("/predict", json={"instances": [[0.0], [1.0]]})
        assert (answer.status_code, answer.json()["title"]) == (500, "The model failed")
        assert both("/predict", json={"instances": [[1.0]]}).json()["prediction"] == [None]


@pytest.mark.parametrize("size", [0, 2**19])
def test_a_failure_of_the_server_itself_is_answered_too(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr("mlnb.serving.predicting.decode", fail)
    for ask in (fast, through_asgi):
        answer = ask("/predict", content=b" " * size)
        assert answer.status_code == 500
        assert "the inside" not in answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert "the inside" in caplog.text


def test_both_count_each_request_once(deployment: Deployment, tumour: Fitted) -> None:
    for number in range(1, 6):
        both("/predict", json={"features": tumour.lists[0]})
        both("/predict", json={"features": []})
        wait_until(lambda number=number: deployment.metrics().requests == 4 * number)  # type: ignore[misc]
    assert deployment.metrics().errors == 10
    assert deployment.metrics().rows == 10
