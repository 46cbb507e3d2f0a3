from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fitted import Fitted

import mlnb
from mlnb import Deployment
from mlnb.serving.app import create_app
from mlnb.serving.hosts import ProcessHost
from mlnb.serving.instance import INSTANCE
from mlnb.workspace import _workspace


@pytest.fixture
def deployment(tumour: Fitted) -> Deployment:
    return mlnb.deploy(
        tumour.model, name="tumour", example=tumour.rows, metrics={"accuracy": 0.97}, description="first"
    )


def request(method: str, path: str, **given: Any) -> httpx.Response:
    """Ask the app itself, on the loop that the deployments live on."""
    host = _workspace._hosting._host
    assert not isinstance(host, ProcessHost)

    async def ask() -> httpx.Response:
        app = create_app({} if host is None else host.gateway.served)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as asking:
            return await asking.request(method, path, **given)

    if host is not None:
        assert host.server.loop is not None
        return asyncio.run_coroutine_threadsafe(ask(), host.server.loop).result(30)
    with ThreadPoolExecutor(1) as pool:  # not on the main thread: Playwright keeps a loop there
        return pool.submit(asyncio.run, ask()).result()


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == answer.status_code
    assert document["title"]
    assert document["detail"]
    return document


@pytest.mark.parametrize("path", ["/models/tumour/predict", "/predict"])
def test_predict(deployment: Deployment, tumour: Fitted, path: str) -> None:
    answer = request("POST", path, json={"instances": tumour.lists[:3]})
    assert answer.status_code == 200
    document = answer.json()
    assert document["prediction"] == tumour.predictions[:3].tolist()
    assert (document["model"], document["version"]) == ("tumour", 1)
    assert len(document["request_id"]) == 12


def test_the_seeds_form(deployment: Deployment, tumour: Fitted) -> None:
    answer = request("POST", "/predict", json={"features": tumour.lists[0]})
    assert answer.json()["prediction"] == tumour.predictions[:1].tolist()


@pytest.mark.parametrize("given", [{"params": {"probabilities": "true"}}, {"params": {"probabilities": ""}}])
def test_probabilities_on_request(deployment: Deployment, tumour: Fitted, given: dict[str, Any]) -> None:
    answer = request("POST", "/predict", json={"instances": tumour.lists[:5]}, **given).json()
    assert answer["probabilities"] == tumour.model.predict_proba(tumour.rows[:5]).tolist()
    assert answer["labels"] == ["benign", "malignant"]


def test_a_query_that_is_neither_true_nor_false(deployment: Deployment) -> None:
    answer = request("POST", "/predict", params={"probabilities": "maybe"}, json={})
    assert "true or false, not 'maybe'" in problem(answer)["detail"]


@pytest.mark.parametrize("path", ["/models/tumour/info", "/model/info"])
def test_info(deployment: Deployment, path: str) -> None:
    document = request("GET", path).json()
    assert document == {
        **deployment.info(),
        "signature": document["signature"],
    }
    assert (document["model"], document["version"], document["metrics"]) == ("tumour", 1, {"accuracy": 0.97})
    assert document["signature"]["fields"][0]["name"] == "mean radius"
    assert document["example"]["mean radius"] == 17.99


def test_stats(deployment: Deployment, tumour: Fitted) -> None:
    request("POST", "/predict", json={"instances": tumour.lists[:3]})
    request("POST", "/predict", content=b"{")
    document = request("GET", "/models/tumour/stats").json()
    assert (document["requests"], document["errors"], document["rows"]) == (2, 1, 3)
    assert document["p50"] > 0


def test_liveness_and_readiness(deployment: Deployment) -> None:
    assert request("GET", "/livez").json() == {"status": "live"}
    assert request("GET", "/readyz").json() == {"status": "ready", "models": ["tumour"]}
    deployment.stop()
    assert request("GET", "/livez").status_code == 200
    assert request("GET", "/readyz").status_code == 503


BAD_BODIES: list[tuple[str, dict[str, Any], int, str]] = [
    ("not JSON", {"content": b"hello"}, 400, "The body is not JSON"),
    ("empty body", {"content": b""}, 400, "The body is empty"),
    ("wrong number of features", {"json": {"features": [1.0, 2.0]}}, 422, "Row 0 has 2 values; the model takes 30"),
    ("an unknown name", {"json": {"instances": [{"radius": 1.0}]}}, 422, "unknown field 'radius'"),
    ("a million rows", {"json": {"instances": [[1.0]] * 1_000_000}}, 413, "1,000,000 rows in one request"),
    (
        "another content type",
        {"content": b"a,b", "headers": {"content-type": "text/html"}},
        415,
        "'text/html' are not read",
    ),
]


@pytest.mark.parametrize(
    ("given", "status", "says"), [case[1:] for case in BAD_BODIES], ids=[case[0] for case in BAD_BODIES]
)
def test_a_bad_body_is_a_problem_and_the_server_goes_on(
    deployment: Deployment, tumour: Fitted, given: dict[str, Any], status: int, says: str
) -> None:
    answer = request("POST", "/models/tumour/predict", **given)
    assert answer.status_code == status
    assert says in problem(answer)["detail"]
    assert request("POST", "/predict", json={"features": tumour.lists[0]}).status_code == 200


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"mean radius": "large"}, "mean radius", "got 'large', needs a number"),
        ({"mean texture": None}, "mean texture", "got a missing value (null or NaN), needs a number"),
        ({"worst area": 10**400}, "worst area", "needs a finite number"),
        ({"worst area": float("nan")}, "worst area", "got a missing value (null or NaN), needs a number"),
        ({"worst area": float("-inf")}, "worst area", "got -inf, needs a finite number"),
    ],
)
def test_a_bad_value_names_row_and_field(
    deployment: Deployment, tumour: Fitted, change: dict[str, Any], field: str, says: str
) -> None:
    import json

    good = tumour.rows.iloc[0].to_dict()
    answer = request("POST", "/predict", content=json.dumps({"instances": [good, good | change]}))
    document = problem(answer)
    assert says in document["detail"]
    assert (document["row"], document["field"], answer.status_code) == (1, field, 422)


def test_a_missing_name(deployment: Deployment, tumour: Fitted) -> None:
    row = tumour.rows.iloc[0].to_dict()
    del row["mean area"]
    document = problem(request("POST", "/predict", json={"instances": [row]}))
    assert (document["row"], document["field"]) == (0, "mean area")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_not_read_to_its_end(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    monkeypatch.setattr("mlnb.serving.app.MAX_BODY_BYTES", 2**20)
    sent = 0

    async def chunks() -> Any:
        nonlocal sent
        for _ in range(64):
            sent += 2**18
            yield b" " * 2**18

    headers = {"content-length": str(64 * 2**18)} if declared else {}
    answer = request("POST", "/predict", content=chunks(), headers=headers)
    assert answer.status_code == 413
    assert "more than 1 MiB" in problem(answer)["detail"]


def test_wrong_path_and_wrong_method(deployment: Deployment) -> None:
    lost = request("GET", "/modles")
    assert (lost.status_code, problem(lost)["detail"]) == (404, "There is no /modles here; /docs lists what there is.")
    wrong = request("GET", "/models/tumour/predict")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "does not take GET; it takes POST" in problem(wrong)["detail"]
    unknown = request("POST", "/models/tumor/predict", json={})
    assert "did you mean 'tumour'" in problem(unknown)["detail"]
    assert unknown.status_code == 404


def test_the_paths_without_a_name_need_exactly_one_model(deployment: Deployment, digits: Fitted) -> None:
    with mlnb.deploy(digits.model, name="digits", example=digits.rows):
        answer = request("POST", "/predict", json={"features": []})
        assert answer.status_code == 409
        assert problem(answer)["models"] == ["digits", "tumour"]
        assert request("GET", "/model/info").status_code == 409
        assert request("GET", "/models/digits/info").status_code == 200
    assert request("GET", "/model/info").json()["model"] == "tumour"
    deployment.stop()
    assert request("GET", "/model/info").status_code == 404


def test_openapi_names_the_fields_of_this_model(deployment: Deployment, digits: Fitted) -> None:
    paths = request("GET", "/openapi.json").json()["paths"]
    assert {"/models/tumour/predict", "/models/tumour/info", "/predict", "/model/info", "/livez", "/readyz"} <= set(
        paths
    )
    body = paths["/models/tumour/predict"]["post"]["requestBody"]["content"]["application/json"]
    many = body["schema"]["oneOf"][0]["properties"]["instances"]["items"]["anyOf"][0]
    assert list(many["properties"]) == list(deployment.version.signature.names)
    assert many["properties"]["mean radius"]["description"] == "6.981 to 28.11 in the example"
    assert body["examples"]["named rows"]["value"]["instances"][0]["mean radius"] == 17.99
    with mlnb.deploy(digits.model, name="digits", example=digits.rows):
        paths = request("GET", "/openapi.json").json()["paths"]
        assert "/models/digits/predict" in paths
        assert "/predict" not in paths


def test_every_example_of_the_openapi_document_is_answered(deployment: Deployment) -> None:
    paths = request("GET", "/openapi.json").json()["paths"]
    examples = paths["/models/tumour/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for example in examples.values():
        assert request("POST", "/models/tumour/predict", json=example["value"]).status_code == 200


def test_a_model_without_known_fields_is_described(home: object) -> None:
    class Echo:
        def predict(self, rows: Any) -> Any:
            return [len(row) for row in rows]

    with mlnb.deploy(Echo(), name="echo"):
        paths = request("GET", "/openapi.json").json()["paths"]
        body = paths["/models/echo/predict"]["post"]["requestBody"]["content"]["application/json"]
        assert "examples" not in body
        assert request("POST", "/predict", json={"instances": ["abc", "de"]}).json()["prediction"] == [3, 2]


def test_docs_need_no_network(deployment: Deployment) -> None:
    page = request("GET", "/docs").text
    assert "https://" not in page
    assert "static-offline-docs/swagger-ui-bundle.js" in page
    assert request("GET", "/static-offline-docs/swagger-ui.css").status_code == 200


def test_what_leads_to_the_docs_is_relative(deployment: Deployment) -> None:
    """So that it is right under the prefix of any proxy, which need not be told; see test_prefixes.py."""
    page = request("GET", "/docs").text
    assert "url: 'openapi.json'" in page
    assert re.findall(r'(?:src|href)="(?!static-offline-docs/)', page) == []
    assert request("GET", "/").headers["location"] == "docs"
    assert request("GET", "/docs/").headers["location"] == "../docs"
    assert request("GET", "/openapi.json").json()["servers"] == [{"url": "."}]
    for prefix in ("/user/ada/proxy/8000", "https://evil.example", '/"><script>'):
        assert request("GET", "/docs", headers={"X-Forwarded-Prefix": prefix}).text == page


def test_who_knows_the_instance_may_read_whether_it_is_this_one(deployment: Deployment) -> None:
    known = request("GET", "/livez", params={"instance": INSTANCE})
    assert known.json() == {"status": "live", "instance": INSTANCE}
    assert known.headers["access-control-allow-origin"] == "*"
    for other in ({}, {"instance": ""}, {"instance": "é"}, {"instance": INSTANCE[:-1]}):
        answer = request("GET", "/livez", params=other)
        assert answer.json() == {"status": "live"}
        assert "access-control-allow-origin" not in answer.headers
    for path in ("/models", "/docs", "/metrics", "/dashboard/data", "/readyz"):
        assert "access-control-allow-origin" not in request("GET", path, params={"instance": INSTANCE}).headers


def test_an_error_of_the_server_itself_says_nothing_of_its_inside(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError("the inside")

    monkeypatch.setattr("mlnb.serving.app.describe", fail)
    answer = request("GET", "/model/info")
    assert answer.status_code == 500
    assert "the inside" not in answer.text
    assert problem(answer)["title"] == "Internal error"
    assert "the inside" in caplog.text


def test_the_models_own_failure_is_not_in_the_answer(registry: mlnb.ModelRegistry) -> None:
    class Secretive:
        def predict(self, rows: Any) -> Any:
            if rows[0][0] == 1.0:
                raise ValueError("password")
            return rows[:, 0]

    with mlnb.deploy(Secretive(), name="secretive", example=[[0.0]]) as deployment:
        answer = request("POST", "/predict", json={"features": [1.0]})
        assert answer.status_code == 500
        assert "password" not in answer.text
        assert problem(answer)["title"] == "The model failed"
        assert deployment.metrics().last_error == "ValueError: password"
        assert request("POST", "/predict", json={"features": [2.0]}).status_code == 200


def test_the_url_that_people_are_shown_answers(deployment: Deployment) -> None:
    assert request("GET", "/models/tumour").json()["model"] == "tumour"
    assert request("GET", "/models").json() == {"models": ["tumour"]}


def test_stats_do_not_tell_what_the_model_said(deployment: Deployment) -> None:
    request("POST", "/predict", content=b"{")
    assert "last_error" not in request("GET", "/models/tumour/stats").json()
