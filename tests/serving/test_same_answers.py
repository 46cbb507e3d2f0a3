"""The answers of a deployment are those of the model itself, whatever the form, the policy, the batch and the place."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest
from fitted import Fitted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mlnb
from mlnb.scaling.balancing import POLICIES


@dataclass(frozen=True)
class Form:
    """A way to send rows: body, and headers."""

    name: str
    path: str
    write: Callable[[Any, list[str]], tuple[bytes, dict[str, str]]]


def _json_many(rows: Any, names: list[str]) -> tuple[bytes, dict[str, str]]:
    return orjson.dumps({"instances": rows.tolist()}), {"content-type": "application/json"}


def _json_one(rows: Any, names: list[str]) -> tuple[bytes, dict[str, str]]:
    return orjson.dumps({"features": rows[0].tolist()}), {"content-type": "application/json"}


def _json_named(rows: Any, names: list[str]) -> tuple[bytes, dict[str, str]]:
    named = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    return orjson.dumps({"instances": named}), {"content-type": "application/json"}


def _csv(rows: Any, names: list[str]) -> tuple[bytes, dict[str, str]]:
    lines = [",".join(names), *(",".join(map(repr, row)) for row in rows.tolist())]
    return "\n".join(lines).encode(), {"content-type": "text/csv"}


def _npy(rows: Any, names: list[str]) -> tuple[bytes, dict[str, str]]:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue(), {"content-type": "application/x-npy"}


def _arrow(rows: Any, names: list[str]) -> tuple[bytes, dict[str, str]]:
    table = pa.table({name: rows[:, at] for at, name in enumerate(names)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue(), {"content-type": "application/vnd.apache.arrow.stream"}


def _v2(rows: Any, names: list[str]) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "rows", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return orjson.dumps({"inputs": [tensor]}), {"content-type": "application/json"}


def _v2_binary(rows: Any, names: list[str]) -> tuple[bytes, dict[str, str]]:
    data = np.ascontiguousarray(rows, "<f8").tobytes()
    tensor = {
        "name": "rows", "shape": list(rows.shape), "datatype": "FP64", "parameters": {"binary_data_size": len(data)},
    }  # fmt: skip
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    return head + data, {"inference-header-content-length": str(len(head))}


FORMS = [
    Form("json", "predict", _json_many), Form("json, one row", "predict", _json_one),
    Form("json, named", "predict", _json_named), Form("csv", "predict", _csv), Form("npy", "predict", _npy),
    Form("arrow", "predict", _arrow), Form("v2", "infer", _v2), Form("v2 binary", "infer", _v2_binary),
]  # fmt: skip
ACCEPT = ["application/json", "text/csv", "application/x-npy", "application/vnd.apache.arrow.stream"]


def read_answer(answer: httpx.Response, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the predictions of an answer, in whatever form."""
    assert answer.status_code == 200, answer.text
    kind = answer.headers["content-type"].partition(";")[0]
    found: Any
    if "inference-header-content-length" in answer.headers:
        length = int(answer.headers["inference-header-content-length"])
        output = json.loads(answer.content[:length])["outputs"][0]
        if output["datatype"] != "BYTES":
            types = {"FP64": "<f8", "INT64": "<i8", "FP32": "<f4"}
            found = np.frombuffer(answer.content[length:], types[output["datatype"]])
        else:
            found, rest = [], answer.content[length:]
            while rest:
                size = int.from_bytes(rest[:4], "little")
                found.append(rest[4 : 4 + size].decode())
                rest = rest[4 + size :]
    elif kind == "application/json":
        document = answer.json()
        found = document["prediction"] if "prediction" in document else document["outputs"][0]["data"]
    elif kind == "text/csv":
        found = answer.text.splitlines()[1:]
    elif kind == "application/x-npy":
        found = np.load(io.BytesIO(answer.content))
    else:
        found = pa.ipc.open_stream(answer.content).read_all().column("prediction").to_pylist()
    return np.asarray(found).astype(like.dtype).reshape(like.shape)


@dataclass(frozen=True)
class Place:
    """A deployment, and the rows and answers of its model."""

    deployment: mlnb.Deployment
    fitted: Fitted

    def ask(self, client: httpx.Client, form: Form, accept: str, chosen: list[int]) -> None:
        """Ask for some rows, and compare with what the model itself says."""
        if form.write is _json_one:
            chosen = chosen[:1]
        rows = np.asarray(self.fitted.rows, float)[chosen]
        expected = self.fitted.predictions[chosen]
        names = [field.name for field in self.deployment.version.signature.fields]
        body, headers = form.write(rows, names)
        url = f"{self.deployment.url}/predict"
        if form.path == "infer":
            url = self.deployment.url.replace("/models/", "/v2/models/") + "/infer"
        else:
            headers |= {"accept": accept}
        answer = client.post(url, content=body, headers=headers)
        while answer.status_code == 503 and "wait already" in answer.text:  # many at once; tried again, as it says
            answer = client.post(url, content=body, headers=headers)
        given = read_answer(answer, expected)
        if expected.dtype.kind == "f":  # BLAS adds up in another order for another number of rows
            np.testing.assert_allclose(given, expected, rtol=1e-12)
        else:
            assert given.tolist() == expected.tolist()


@pytest.fixture(params=["kernel", "processes", "accelerated", "accelerated processes"], scope="module")
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Place]]:
    """All three models, served in one kind of place; the policy changes while they are asked."""
    kind: str = request.param
    options: dict[str, Any] = {
        "registry": tmp_path_factory.mktemp("places"), "replicas": 2 if "processes" in kind else 0,
        "accelerate": "accelerated" in kind,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLNB_PROVE", "off")
        found = []
        for name in ("tumour", "digits") if kind == "accelerated processes" else ("tumour", "digits", "diabetes"):
            fitted: Fitted = request.getfixturevalue(name)
            found.append(Place(mlnb.deploy(fitted.model, name=name, example=fitted.rows, **options), fitted))
        yield found
        mlnb.stop()


@pytest.fixture
def home(places: list[Place]) -> None:
    """In the place of the fixture that stops everything after each test."""


requests = st.lists(
    st.tuples(st.sampled_from(FORMS), st.sampled_from(ACCEPT), st.lists(st.integers(0, 400), min_size=1, max_size=20)),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 2), wanted=requests)
def test_every_answer_is_the_models_own(places: list[Place], which: int, wanted: Any) -> None:
    place = places[which % len(places)]
    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(len(wanted)) as pool:
        for asked in [pool.submit(place.ask, client, *one) for one in wanted]:
            asked.result()


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_answer_is_the_models_own_under_every_policy(places: list[Place], policy: str) -> None:
    place = places[0]
    assert mlnb.deploy(str(place.deployment.version), registry=place.deployment.registry, policy=policy).state == "live"
    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(place.ask, client, FORMS[number % len(FORMS)], ACCEPT[number % 3], [number, number + 1])
            for number in range(48)
        ]
        for one in asked:
            one.result()
    ready = place.deployment.snapshot().replicas
    assert len(ready) == max(1, place.deployment.replicas)
    assert sum(one.rows for one in ready) >= 48
