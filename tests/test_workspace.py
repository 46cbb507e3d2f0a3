from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fitted import Fitted
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression
from threads import mlnb_threads
from waiting import free_port, is_open, wait_until

import mlnb
from mlnb import ModelRegistry
from mlnb.errors import (
    InvalidInputError,
    InvalidNameError,
    MlnbError,
    ModelNotFoundError,
    NoPreviousVersionError,
    NotDeployedError,
    NotServableError,
    PortInUseError,
    RegistryUnavailableError,
    StoppedError,
)


def constant(value: float) -> DummyRegressor:
    return DummyRegressor(strategy="constant", constant=value).fit([[0.0]], [value])


def port_of(deployment: mlnb.Deployment) -> int:
    port = httpx.URL(deployment.url).port
    assert port is not None
    return port


@pytest.mark.parametrize("data", ["tumour", "digits", "diabetes"])
def test_every_answer_equals_the_models_own(request: pytest.FixtureRequest, data: str) -> None:
    fitted: Fitted = request.getfixturevalue(data)
    with mlnb.deploy(fitted.model, name=data, example=fitted.rows) as deployment, httpx.Client(timeout=30) as client:
        direct = deployment.predict(fitted.rows)
        assert direct.dtype == fitted.predictions.dtype
        assert direct.tobytes() == fitted.predictions.tobytes()
        answer = client.post(f"{deployment.url}/predict", json={"instances": fitted.lists})
        assert answer.json()["prediction"] == fitted.predictions.tolist()
        for row in range(len(fitted.lists)):
            answer = client.post(f"{deployment.url}/predict", json={"features": fitted.lists[row]})
            alone = fitted.model.predict(fitted.rows[row : row + 1])
            assert answer.json()["prediction"] == alone.tolist()


def test_deploying_a_live_name_again_swaps_the_version_in_place() -> None:
    first = mlnb.deploy(constant(1.0), name="c", example=[[0.0]])
    url = first.url
    second = mlnb.deploy(constant(2.0), name="c", example=[[0.0]])
    assert second is first
    assert (first.url, first.version.number) == (url, 2)
    assert first.predict([[0.0]]).tolist() == [2.0]
    assert repr(first) == f"<Deployment c:2, live at {url}>"


def test_what_is_served_is_what_was_registered_whatever_happens_to_the_model() -> None:
    model = constant(1.0)
    with mlnb.deploy(model, name="c", example=[[0.0]]) as deployment:
        model.fit([[0.0]], [5.0])
        model.constant_ = np.array([[5.0]])
        assert deployment.predict([[0.0]]).tolist() == [1.0]


def test_roll_back_and_the_way_forward() -> None:
    for value in (1.0, 2.0, 3.0):
        deployment = mlnb.deploy(constant(value), name="c", example=[[0.0]])
    assert mlnb.rollback("c") is deployment
    assert deployment.predict([0.0]).tolist() == [2.0]
    assert deployment.rollback().predict([0.0]).tolist() == [1.0]
    with pytest.raises(NoPreviousVersionError, match="name one of 1-3"):
        deployment.rollback()
    assert deployment.rollback(to=3).predict([0.0]).tolist() == [3.0]
    with pytest.raises(ModelNotFoundError, match="no version 9; there are 1-3"):
        deployment.rollback(to=9)
    assert deployment.version.number == 3


def test_no_request_is_lost_while_versions_change_over_http() -> None:
    deployment = mlnb.deploy(constant(1.0), name="c", example=[[0.0]])
    stop = threading.Event()

    def ask_without_pause(_: int) -> list[tuple[int, Any]]:
        seen = []
        with httpx.Client() as client:
            while not stop.is_set():
                answer = client.post(f"{deployment.url}/predict", json={"features": [0.0]})
                seen.append((answer.status_code, answer.json()))
        return seen

    with ThreadPoolExecutor(3) as pool:
        asking = pool.map(ask_without_pause, range(3))
        for number in range(2, 12):
            mlnb.deploy(constant(float(number)), name="c", example=[[0.0]])
            deployment.rollback()
            deployment.rollback(to=number)
        stop.set()
        seen = [one for part in asking for one in part]
    assert len(seen) > 20
    assert {status for status, _ in seen} == {200}
    assert all(answer["prediction"] == [float(answer["version"])] for _, answer in seen)


def test_deploy_of_a_stored_version(registry: ModelRegistry) -> None:
    for value in (1.0, 2.0):
        registry.register(constant(value), "c", example=[[0.0]])
    registry.set_alias("c", "champion", 1)
    for reference, value in (("c", 2.0), ("c:1", 1.0), ("c@champion", 1.0)):
        with mlnb.deploy(reference) as deployment:
            assert deployment.predict([0.0]).tolist() == [value]
    assert len(registry.versions("c")) == 2


def test_a_registry_may_be_given_and_is_kept_for_the_name(tmp_path: Path, home: Path) -> None:
    other = ModelRegistry(tmp_path / "other")
    mlnb.deploy(constant(1.0), name="c", example=[[0.0]], registry=other)
    mlnb.deploy(constant(2.0), name="c", example=[[0.0]])
    assert [version.number for version in other.versions("c")] == [1, 2]
    assert not home.exists()
    assert [version.number for version in mlnb.versions("c")] == [2, 1]


def test_the_port_stays_the_same(home: Path) -> None:
    first = mlnb.deploy(constant(1.0), name="c", example=[[0.0]])
    url = first.url
    first.stop()
    assert not is_open(port_of(first))
    assert mlnb.deploy(constant(2.0), name="c", example=[[0.0]]).url == url
    assert mlnb.deploy(constant(2.0), name="d", example=[[0.0]]).url == url.removesuffix("c") + "d"


def test_a_port_may_be_named() -> None:
    port = free_port()
    with mlnb.deploy(constant(1.0), name="c", example=[[0.0]], port=port) as deployment:
        assert port_of(deployment) == port
        with pytest.raises(PortInUseError, match=f"share port {port}, so port {port + 1} was not opened"):
            mlnb.deploy(constant(2.0), name="d", example=[[0.0]], port=port + 1)


def test_a_last_port_that_somebody_took_is_replaced() -> None:
    import socket

    port = free_port()
    mlnb.deploy(constant(1.0), name="c", example=[[0.0]], port=port).stop()
    with socket.create_server(("127.0.0.1", port)):
        with mlnb.deploy("c") as deployment:
            assert port_of(deployment) != port
        with pytest.raises(PortInUseError, match=f"Port {port} cannot be used"):
            mlnb.deploy("c", port=port)


def test_a_taken_port_changes_nothing(home: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUseError):
        mlnb.deploy(constant(1.0), name="c", port=taken.getsockname()[1])
    assert mlnb.deployments() == []
    assert not home.exists()


@pytest.mark.parametrize(
    ("model", "given", "error", "says"),
    [
        (3, {"name": "c"}, NotServableError, "int cannot be served: a model needs a method `predict`"),
        (constant(1.0), {"name": "a/b"}, InvalidNameError, "letters, digits"),
        (
            LinearRegression(),
            {"name": "c", "example": [[1.0]]},
            NotServableError,
            "is not fitted yet",
        ),
        ("c:1", {}, ModelNotFoundError, "There is no model 'c'"),
        ("a/b", {}, InvalidNameError, "letters, digits"),
    ],
)
def test_a_mistake_changes_nothing(
    home: Path, model: Any, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    before = threading.active_count()
    with pytest.raises(error, match=says):
        mlnb.deploy(model, **given)
    assert mlnb.deployments() == []
    assert not home.exists()
    assert threading.active_count() == before


def test_a_mistake_leaves_the_live_version_live() -> None:
    deployment = mlnb.deploy(constant(1.0), name="c", example=[[0.0]])
    with pytest.raises(NotServableError):
        mlnb.deploy(object(), name="c")
    assert deployment.predict([0.0]).tolist() == [1.0]
    assert deployment.version.number == 1


def test_a_stored_version_takes_no_new_name_or_metrics(registry: ModelRegistry) -> None:
    registry.register(constant(1.0), "c")
    with pytest.raises(InvalidNameError, match="served under its own name 'c'"):
        mlnb.deploy("c:1", name="d")
    with pytest.raises(MlnbError, match="a version never changes, so metrics cannot be added"):
        mlnb.deploy("c:1", metrics={"accuracy": 1.0})


def test_the_name_comes_from_the_class() -> None:
    with mlnb.deploy(DummyClassifier().fit([[0.0]], [1]), example=[[0.0]]) as deployment:
        assert deployment.name == "dummy-classifier"


def test_a_stopped_deployment_says_so_and_starts_again() -> None:
    deployment = mlnb.deploy(constant(1.0), name="c", example=[[0.0]])
    deployment.stop()
    deployment.stop()
    assert deployment.state == "stopped"
    assert repr(deployment) == "<Deployment c:1, stopped>"
    with pytest.raises(StoppedError, match=r"Deploy it again: mlnb.deploy\('c:1'\)"):
        deployment.predict([0.0])
    with pytest.raises(NotDeployedError):
        deployment.rollback()
    assert deployment.start() is deployment
    assert deployment.start().predict([0.0]).tolist() == [1.0]


def test_a_deployment_means_its_version(tmp_path: Path) -> None:
    deployment = mlnb.deploy(constant(1.0), name="c", example=[[0.0]], registry=tmp_path / "other")
    deployment.stop()
    assert mlnb.deploy(deployment) is deployment
    assert (deployment.state, str(deployment.version)) == ("live", "c:1")


def test_stop_of_one_and_of_all() -> None:
    for name in ("a", "b", "c"):
        mlnb.deploy(constant(1.0), name=name, example=[[0.0]])
    assert [deployment.name for deployment in mlnb.deployments()] == ["a", "b", "c"]
    assert [deployment.name for deployment in mlnb.stop("b")] == ["b"]
    with pytest.raises(NotDeployedError, match="'b' is not deployed here; there are: a, c"):
        mlnb.stop("b")
    assert [deployment.name for deployment in mlnb.stop()] == ["a", "c"]
    assert mlnb.stop() == []


def test_versions_say_what_is_live_and_named(registry: ModelRegistry) -> None:
    mlnb.deploy(constant(1.0), name="c", example=[[0.0]], metrics={"r2": 0.5})
    mlnb.deploy(constant(2.0), name="c", example=[[0.0]])
    registry.register(constant(1.0), "d")
    registry.set_alias("c", "champion", 2)
    mlnb.rollback("c")
    second, first = repr(mlnb.versions("c")).splitlines()[1:]
    assert "@champion" in second
    assert "● live" in first
    assert [(version.name, version.number) for version in mlnb.versions()] == [("c", 1), ("d", 1)]
    with pytest.raises(ModelNotFoundError, match="there are: c, d"):
        mlnb.versions("x")


def test_the_history_tells_it_all(registry: ModelRegistry) -> None:
    mlnb.deploy(constant(1.0), name="c")
    mlnb.deploy(constant(2.0), name="c")
    mlnb.rollback("c")
    mlnb.stop("c")
    assert [(event.action, event.version) for event in registry.history("c")] == [
        ("registered", 1),
        ("deployed", 1),
        ("registered", 2),
        ("deployed", 2),
        ("rolled back", 1),
        ("stopped", 1),
    ]


def test_a_snapshot_is_what_a_panel_draws() -> None:
    deployment = mlnb.deploy(constant(1.0), name="c", example=[[0.0]])
    mlnb.deploy(constant(2.0), name="c", example=[[0.0]])
    deployment.predict([0.0])
    snapshot = deployment.snapshot()
    assert (snapshot.state, snapshot.previous, snapshot.place) == ("live", 1, "in kernel")
    assert [version.number for version in snapshot.versions] == [2, 1]
    assert snapshot.metrics.requests == 1
    assert snapshot.docs_url == f"http://127.0.0.1:{port_of(deployment)}/docs"


def test_answers_carry_probabilities_on_request(tumour: Fitted) -> None:
    with mlnb.deploy(tumour.model, name="tumour", example=tumour.rows) as deployment:
        answer = deployment.answer(tumour.rows[:2], probabilities=True)
        assert answer.probabilities is not None
        assert answer.probabilities.tolist() == tumour.model.predict_proba(tumour.rows[:2]).tolist()
        assert answer.version == deployment.version


def test_a_reference_means_the_registry_that_is_live_for_its_name(tmp_path: Path, registry: ModelRegistry) -> None:
    registry.register(constant(9.0), "c", example=[[0.0]])
    other = ModelRegistry(tmp_path / "other")
    deployment = mlnb.deploy(constant(1.0), name="c", example=[[0.0]], registry=other)
    assert mlnb.deploy("c:1").predict([0.0]).tolist() == [1.0]
    assert deployment.registry is other
    mlnb.deploy(DummyClassifier().fit([[0.0]], [1]), example=[[0.0]], registry=other)
    mlnb.deploy(DummyClassifier().fit([[0.0]], [1]), example=[[0.0]])
    assert len(other.versions("dummy-classifier")) == 2


def test_a_registry_that_fails_late_leaves_nothing_live(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RegistryUnavailableError("the disk is full")

    monkeypatch.setattr(ModelRegistry, "record", fail)
    for model in (constant(1.0), constant(2.0)):
        with pytest.raises(RegistryUnavailableError):
            mlnb.deploy(model, name="c", example=[[0.0]])
    monkeypatch.undo()
    assert mlnb.deployments() == []
    assert not mlnb_threads()
    with mlnb.deploy(constant(3.0), name="c", example=[[0.0]]) as deployment:
        monkeypatch.setattr(ModelRegistry, "record", fail)
        with pytest.raises(RegistryUnavailableError):
            mlnb.deploy("c")
        assert deployment.predict([0.0]).tolist() == [3.0]
        monkeypatch.undo()


class Slow:
    """Takes as long as it is told to."""

    may_go = threading.Event()
    entered = threading.Event()

    def predict(self, rows: Any) -> Any:
        if rows[0][0] == 1.0:
            Slow.entered.set()
            Slow.may_go.wait(10)
        return rows[:, 0]


def test_while_one_stops_slowly_the_others_are_seen_and_a_second_stop_is_harmless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mlnb.workspace.workspace._PATIENCE", 0.5)
    slow = mlnb.deploy(Slow(), name="slow", example=[[0.0]])
    mlnb.deploy(constant(1.0), name="c", example=[[0.0]])
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(httpx.post, f"{slow.url}/predict", json={"features": [1.0]}, timeout=20)
        assert Slow.entered.wait(5)
        stopping = pool.submit(slow.stop)
        wait_until(lambda: slow.state == "stopped")
        assert [deployment.name for deployment in mlnb.deployments()] == ["c"]
        slow.stop()
        stopping.result(5)
        answer = asking.result(5)
        Slow.may_go.set()
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"


def test_roll_back_does_not_go_forward_to_what_another_kernel_deployed(registry: ModelRegistry) -> None:
    deployment = mlnb.deploy(constant(1.0), name="c", example=[[0.0]])
    elsewhere = ModelRegistry(Path(registry.url))
    second = elsewhere.register(constant(2.0), "c", example=[[0.0]])
    for version in (second, elsewhere.version("c:1")):
        elsewhere.record(version, "deployed")
    with pytest.raises(NoPreviousVersionError):
        deployment.rollback()
    mlnb.deploy(constant(3.0), name="c", example=[[0.0]])
    assert deployment.rollback().version.number == 1


def test_a_kernel_that_starts_anew_can_roll_back_through_the_history(registry: ModelRegistry) -> None:
    for value in (1.0, 2.0):
        registry.record(registry.register(constant(value), "c", example=[[0.0]]), "deployed")
    deployment = mlnb.deploy(constant(3.0), name="c", example=[[0.0]])
    assert deployment.rollback().version.number == 2
    assert deployment.rollback().version.number == 1


def test_a_reference_to_roll_back_to_is_answered_with_the_option() -> None:
    mlnb.deploy(constant(1.0), name="c", example=[[0.0]])
    with pytest.raises(NotDeployedError, match="'c' is, and roll back takes the version as --to"):
        mlnb.rollback("c:1")


ASKED, GO_ON = threading.Event(), threading.Event()


def slow(rows: Any) -> Any:
    ASKED.set()
    GO_ON.wait(20)
    return np.zeros(len(rows))


def test_what_is_slow_to_store_keeps_no_other_name_waiting(tumour: Fitted) -> None:
    quick = mlnb.deploy(tumour.model, name="quick", example=tumour.rows)
    deploying = threading.Thread(target=lambda: mlnb.deploy(slow, example=[[1.0]]))
    deploying.start()
    try:
        assert ASKED.wait(10)
        quick.stop()  # with the lock held, this would wait for the slow one
        assert quick.state == "stopped"
    finally:
        GO_ON.set()
        deploying.join()
    assert [deployment.name for deployment in mlnb.deployments()] == ["slow"]


@pytest.mark.parametrize(
    "given", [{"replicas": -1}, {"replicas": 1.5}, {"replicas": 65}, {"timeout": 0}, {"policy": "best"}]
)
def test_a_manner_that_cannot_be_is_refused_before_anything_is_stored(given: Any, registry: ModelRegistry) -> None:
    with pytest.raises(InvalidInputError):
        mlnb.deploy(constant(1.0), name="c", example=[[0.0]], **given)
    assert registry.names() == []
    with mlnb.deploy(constant(1.0), name="c", example=[[0.0]]) as deployment:
        for count in (-1, 65):
            with pytest.raises(InvalidInputError, match="a whole number from 0 to 64 is needed"):
                deployment.scale(count)
        assert deployment.predict([0.0]).tolist() == [1.0]


def test_the_manner_of_serving_is_kept(tumour: Fitted) -> None:
    deployment = mlnb.deploy(tumour.model, name="tumour", example=tumour.rows, replicas=1, accelerate=True, timeout=30)
    mlnb.deploy(tumour.model, name="tumour", example=tumour.rows)
    assert (deployment.version.number, deployment.replicas) == (2, 1)
    assert deployment.acceleration is not None
    deployment.rollback()
    assert (deployment.replicas, deployment.acceleration is None) == (1, False)
    deployment.stop()
    assert deployment.start().snapshot().place == "1 process"
    assert (deployment.predict(tumour.rows) == tumour.predictions).all()


def test_a_benchmark_needs_rows_and_a_live_endpoint() -> None:
    with mlnb.deploy(constant(1.0), name="c") as deployment:
        with pytest.raises(InvalidInputError, match="no example row; give rows"):
            deployment.benchmark()
        result = deployment.benchmark([[1.0]], connections=(1,), seconds=0.1)
        assert result.steps[0].good > 0
    with pytest.raises(StoppedError):
        deployment.benchmark([[1.0]])
