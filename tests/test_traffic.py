"""The verbs of a deployment that share out its requests, end to end over HTTP."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from waiting import wait_until

import mlnb
from mlnb.errors import (
    AlreadyLabelledError,
    InvalidInputError,
    MlnbError,
    ModelNotFoundError,
    NoPreviousVersionError,
    StoppedError,
    UndecidedError,
    UnknownRequestError,
)

EXAMPLE = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "user": [1, 2, 3, 4]})


class Flowers:
    """Says of sizes above a limit that they are roses, of the others that they are tulips."""

    classes_ = np.array(["rose", "tulip"])

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def predict(self, rows: Any) -> Any:
        sizes = np.asarray(rows["size"], float)
        return np.where(sizes > self.limit, "rose", "tulip")


@pytest.fixture
def deployment() -> mlnb.Deployment:
    """Version 1 is live; 2 says the same, 3 something else. 1 is the champion, 2 the challenger."""
    deployment = mlnb.deploy(Flowers(5), name="flowers", example=EXAMPLE)
    for limit in (5, 8):
        deployment.registry.register(Flowers(limit), "flowers", example=EXAMPLE)
    deployment.registry.set_alias("flowers", "champion", 1)
    deployment.registry.set_alias("flowers", "challenger", 2)
    return deployment


@pytest.fixture
def client(deployment: mlnb.Deployment) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=deployment.url, timeout=20) as client:
        yield client


def ask(client: httpx.Client, size: float = 6.0, user: int = 1, **options: Any) -> dict[str, Any]:
    body = {"instances": [{"size": size, "user": user}]} | options.pop("body", {})
    answer = client.post(options.pop("path", "/predict"), json=body, **options)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def versions(client: httpx.Client, count: int = 30, **options: Any) -> Counter[int]:
    return Counter(ask(client, **options)["version"] for _ in range(count))


def shares(deployment: mlnb.Deployment) -> dict[int, float]:
    traffic = deployment.traffic
    assert traffic is not None
    return traffic.shares


def deeds(deployment: mlnb.Deployment) -> list[tuple[str, int]]:
    return [(event.action, event.version) for event in deployment.registry.history("flowers")]


def last(deployment: mlnb.Deployment) -> Any:
    return deployment.registry.history("flowers")[-1]


# ---- split ----


def test_each_request_by_itself_where_none_has_a_key(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.split({"champion": 50, "challenger": 50})
    found = versions(client, 200)
    assert min(found[1], found[2]) > 60
    assert found.total() == 200
    assert {number: count.requests for number, count in deployment.traffic.counts.items()} == found  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "keyed",
    [
        lambda key: {"headers": {"X-Routing-Key": key}},
        lambda key: {"headers": {"x-routing-key": key}, "body": {"key": "another"}},
        lambda key: {"body": {"key": key}},
        lambda key: {"body": {"key": int(key)}},
    ],
)
def test_a_key_meets_the_same_version_however_it_is_given(
    deployment: mlnb.Deployment, client: httpx.Client, keyed: Callable[[str], dict[str, Any]]
) -> None:
    deployment.split({"champion": 50, "challenger": 50})
    split = deployment._hosted.split  # type: ignore[union-attr]
    assert split is not None
    for key in map(str, range(10)):
        assert set(versions(client, 3, **keyed(key))) == {split.choose(key.encode())}


def test_the_key_is_a_field_of_the_first_row(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.split({1: 50, 2: 50}, key="user")
    split = deployment._hosted.split  # type: ignore[union-attr]
    assert split is not None
    assert deployment.traffic.key == "user"  # type: ignore[union-attr]
    forms: list[dict[str, Any]] = [
        {"json": {"instances": [{"size": 6.0, "user": 17}, {"size": 6.0, "user": 3}]}},
        {"json": {"instances": [[6.0, 17]]}},
        {"json": {"features": [6.0, 17]}},
        {"content": b"size,user\n6.0,17\n", "headers": {"content-type": "text/csv"}},
        {"json": {"instances": [[6.0, 17]]}, "headers": {"X-Routing-Key": ""}},
    ]
    for form in forms:
        answer = client.post("/predict", **form)
        assert answer.json()["version"] == split.choose(b"17")
    other = next(key for key in map(str, range(99)) if split.choose(key.encode()) != split.choose(b"17"))
    answer = client.post("/predict", headers={"X-Routing-Key": other}, **forms[0])
    assert answer.json()["version"] == split.choose(other.encode())


def test_the_version_that_answered_is_said_in_every_form(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.split({1: 0, 3: 1})
    body = {"instances": [{"size": 6.0, "user": 1}]}
    for accept in ("text/csv", "application/x-npy"):
        assert client.post("/predict", json=body, headers={"accept": accept}).headers["x-model-version"] == "3"
    assert ask(client)["version"] == 3
    assert client.get("/info").json()["shares"] == {"3": 1.0}
    assert deployment.answer(EXAMPLE[:1]).version.number == 3


def test_a_version_of_the_split_may_be_asked_by_number(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    base = deployment.url.split("/models")[0]
    v2 = {"inputs": [{"name": "size", "shape": [1], "datatype": "FP64", "data": [6.0]},
                     {"name": "user", "shape": [1], "datatype": "INT64", "data": [1]}]}  # fmt: skip
    deployment.split({1: 1, 3: 0})
    for number, label in ((1, "rose"), (3, "tulip")):
        answer = client.post(f"{base}/v2/models/flowers/versions/{number}/infer", json=v2).json()
        assert (answer["model_version"], answer["outputs"][0]["data"]) == (str(number), [label])
    assert client.post(f"{base}/v2/models/flowers/versions/2/infer", json=v2).status_code == 404
    deployment.rollback()
    assert client.post(f"{base}/v2/models/flowers/versions/3/infer", json=v2).status_code == 404


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_change_of_weights_moves_as_few_as_it_can(deployment: mlnb.Deployment, replicas: int) -> None:
    deployment.scale(replicas)
    deployment.split({1: 90, 2: 10})

    def chosen() -> list[int]:
        with httpx.Client() as client:
            return [
                client.post(
                    f"{deployment.url}/predict", json={"features": [6.0, 1]}, headers={"X-Routing-Key": str(key)}
                ).json()["version"]
                for key in range(100)
            ]

    first = chosen()
    deployment.split({1: 80, 2: 20})
    second = chosen()
    assert set(zip(first, second, strict=True)) == {(1, 1), (2, 2), (1, 2)}
    deployment.scale(1 - replicas)
    assert chosen() == second
    deployment.rollback()
    deployment.split({1: 90, 2: 10})
    assert chosen() == first
    assert shares(deployment) == pytest.approx({1: 0.9, 2: 0.1})


def test_any_number_of_versions(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.split({1: 1, "flowers:2": 1, "3": 1})
    assert set(versions(client, 60)) == {1, 2, 3}
    assert shares(deployment) == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
    assert last(deployment).traffic["weights"] == {"1": 1.0, "2": 1.0, "3": 1.0}


# ---- feedback and experiment ----


def test_feedback_by_call_by_post_and_as_a_table(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.split({"champion": 50, "challenger": 50})
    ids = [ask(client)["request_id"] for _ in range(40)]
    assert deployment.feedback(ids[0], "rose") == 1
    assert client.post("/feedback", json={"request_id": ids[1], "label": "rose"}).json() == {
        "model": "flowers",
        "noted": 1,
    }
    many = {"feedback": [{"request_id": one, "label": "tulip"} for one in ids[2:10]]}
    assert client.post("/feedback", json=many).json()["noted"] == 8
    table = pd.DataFrame({"request_id": ids[10:20], "label": ["rose"] * 10, "anything": 1})
    assert deployment.feedback(table) == 10
    assert deployment.feedback(table.assign(request_id=ids[20:30]).set_index("request_id")) == 10
    assert deployment.feedback([{"request_id": one, "label": "rose"} for one in ids[30:]]) == 10
    found = deployment.experiment()
    assert {arm.name: arm.version for arm in found.arms} == {"champion": 1, "challenger": 2}
    assert sum(arm.tally.count for arm in found.arms) == 40


def test_an_outcome_in_the_place_of_a_label(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.split({1: 1, 2: 1})
    one, other = ask(client)["request_id"], ask(client)["request_id"]
    assert deployment.feedback(one, outcome=1) == 1
    assert client.post("/feedback", json={"request_id": other, "outcome": 0.0}).json()["noted"] == 1
    assert deployment.experiment().metric == "outcome"


def decided(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    """Let an experiment have a winner: version 1 is always right, and version 3 never."""
    deployment.split({"champion": 50, 3: 50})
    answers = [ask(client) for _ in range(150)]
    deployment.feedback([{"request_id": one["request_id"], "label": "rose"} for one in answers])


def test_the_winner_of_an_experiment_is_promoted(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    decided(deployment, client)
    found = deployment.experiment()
    assert found.verdict.winner == "champion"
    deployment.promote()
    assert shares(deployment) == {1: 1.0}
    assert (last(deployment).action, last(deployment).version) == ("promoted", 1)
    assert last(deployment).reason == found.verdict.words
    assert last(deployment).by
    with pytest.raises(MlnbError, match="not split"):
        deployment.experiment()


def test_an_experiment_goes_on_with_other_weights_and_in_another_place(
    deployment: mlnb.Deployment, client: httpx.Client
) -> None:
    decided(deployment, client)
    before = {arm.version: arm.tally.count for arm in deployment.experiment().arms}
    waiting = [ask(client)["request_id"] for _ in range(10)]
    deployment.split({"champion": 20, 3: 80})
    deployment.scale(1)
    deployment.feedback([{"request_id": one, "label": "rose"} for one in waiting])
    after = {arm.version: arm.tally.count for arm in deployment.experiment().arms}
    assert sum(after.values()) == sum(before.values()) + 10
    assert all(after[version] >= before[version] for version in before)


def test_without_a_winner_nothing_is_promoted_but_what_is_named(
    deployment: mlnb.Deployment, client: httpx.Client
) -> None:
    deployment.split({1: 50, 2: 50})
    ask(client)
    with pytest.raises(UndecidedError):
        deployment.promote()
    assert shares(deployment) == {1: 0.5, 2: 0.5}
    deployment.promote("challenger", reason="I like it")
    assert (shares(deployment), deployment.version.number) == ({2: 1.0}, 2)
    assert (last(deployment).action, last(deployment).reason) == ("promoted", "I like it")
    deployment.rollback()
    assert shares(deployment) == {1: 1.0}


# ---- shadow and replay ----


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_shadow_and_where_it_disagrees(deployment: mlnb.Deployment, client: httpx.Client, replicas: int) -> None:
    deployment.scale(replicas)
    deployment.shadow(3)
    for size in range(1, 11):
        assert ask(client, size=float(size))["version"] == 1
    wait_until(lambda: deployment.traffic.shadow.summary.compared == 10)  # type: ignore[union-attr]
    summary = deployment.traffic.shadow.summary  # type: ignore[union-attr]
    assert (summary.differing, summary.failed, summary.dropped) == (3, 0, 0)
    found = deployment.disagreements()
    assert sorted(row["size"] for row in found["row"]) == [6.0, 7.0, 8.0]
    assert set(found["live"]) == {"rose"}
    assert set(found["shadow"]) == {"tulip"}
    assert set(found["distance"]) == {1.0}
    assert shares(deployment) == {1: 1.0}
    assert (last(deployment).action, last(deployment).version) == ("shadowed", 3)
    deployment.shadow(None)
    assert (last(deployment).action, last(deployment).version) == ("unshadowed", 3)
    assert deployment.traffic.simple  # type: ignore[union-attr]
    with pytest.raises(MlnbError, match="no shadow"):
        deployment.disagreements()
    with pytest.raises(MlnbError, match="no shadow"):
        deployment.shadow(None)


def test_a_share_of_the_requests(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.shadow(3, share=20)
    versions(client, 200)
    wait_until(lambda: deployment.traffic.shadow.summary.compared > 10)  # type: ignore[union-attr]
    assert 10 < deployment.traffic.shadow.summary.compared < 80  # type: ignore[union-attr]


def test_what_another_version_would_have_answered(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    ids = [ask(client, size=float(size))["request_id"] for size in range(1, 11)]
    client.post("/predict", json={"instances": [[7.0, 1], [9.0, 2]]})
    deployment.predict([4.0, 3])
    deployment.predict({"size": 8.0, "user": 3})
    deployment.predict(EXAMPLE[:1])
    client.post("/predict", json={"instances": [["x", 1]]})
    found = deployment.replay(3)
    assert len(found) == 15
    assert list(found["request_id"][:10]) == ids
    assert list(found["answered"][:10]) == ["tulip"] * 5 + ["rose"] * 5
    assert list(found["replayed"][:10]) == ["tulip"] * 8 + ["rose"] * 2
    assert list(found["replayed"][10:]) == ["tulip", "rose", "tulip", "tulip", "tulip"]
    assert {tuple(row) for row in found["row"]} == {("size", "user")}
    assert found["distance"].sum() == 5
    assert set(found["version"]) == {1}
    assert set(shares(deployment)) == {1}
    middle = found["at"][4].isoformat()
    assert len(deployment.replay("flowers:2", until=middle)) + len(deployment.replay(2, since=middle)) in (15, 16)
    assert deployment.replay(2, since="2999-01-01").empty


# ---- canary ----


def test_a_canary_becomes_live_step_by_step(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.canary("challenger", steps=(20, 60, 100), hold=0.05, guard={"errors": 0.2, "p99": 5000})
    assert shares(deployment)[2] in (0.2, 0.6, 1.0)
    while deployment._hosted.canary is not None:  # type: ignore[union-attr]
        ask(client)
    wait_until(lambda: last(deployment).action != "canary")
    assert deployment.version.number == 2
    assert shares(deployment) == {2: 1.0}
    assert deeds(deployment)[-2:] == [("canary", 2), ("promoted", 2)]
    assert "all guards held" in last(deployment).reason
    assert deployment.traffic.last.kind == "promoted"  # type: ignore[union-attr]
    deployment.rollback()
    assert deployment.version.number == 1


def test_a_canary_that_disagrees_is_taken_back(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.canary(3, steps=(5, 100), hold="10m", guard={"disagreement": 0.1, "errors": None})
    while deployment._hosted.canary is not None:  # type: ignore[union-attr]
        ask(client, size=7.0)
    wait_until(lambda: last(deployment).action != "canary")
    assert deployment.version.number == 1
    assert deployment.traffic.simple  # type: ignore[union-attr]
    assert (last(deployment).action, last(deployment).version) == ("taken back", 3)
    assert "other answers" in last(deployment).reason


def test_a_canary_whose_labels_are_worse_is_taken_back(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.canary(3, steps=(50, 100), hold="10m", guard={"quality": 0.1, "errors": None})
    while deployment._hosted.canary is not None:  # type: ignore[union-attr]
        deployment.feedback(ask(client, size=7.0)["request_id"], "rose")
    wait_until(lambda: last(deployment).action != "canary")
    assert deployment.version.number == 1
    assert "scores worse" in last(deployment).reason


# ---- roll back ----


@pytest.mark.parametrize(
    "begin",
    [
        lambda deployment: deployment.split({1: 1, 3: 99}),
        lambda deployment: deployment.split({3: 1}),
        lambda deployment: deployment.canary(3, steps=(90,), hold=1000),
        lambda deployment: deployment.split({1: 1, 2: 1}).split({2: 1, 3: 9}),
        lambda deployment: deployment.split({1: 1, 3: 1}).promote(3),
        lambda deployment: deployment.split({1: 1, 3: 1}).shadow(2),
        lambda _: mlnb.deploy("flowers:3"),
    ],
    ids=["split", "alone", "canary", "twice", "promoted", "shadow", "deployed"],
)
def test_roll_back_from_any_state(
    deployment: mlnb.Deployment, client: httpx.Client, begin: Callable[[mlnb.Deployment], Any]
) -> None:
    begin(deployment)
    versions(client, 5)
    assert deployment.snapshot().previous == 1
    assert deployment.rollback(reason="it is bad") is deployment
    assert (deployment.version.number, shares(deployment)) == (1, {1: 1.0})
    assert deployment.traffic.simple  # type: ignore[union-attr]
    assert versions(client, 5) == {1: 5}
    event = last(deployment)
    assert (event.action, event.version, event.reason) == ("rolled back", 1, "it is bad")
    assert "@" in event.by
    assert deployment.registry.live("flowers") == 1
    assert deployment.snapshot().previous is None


def test_roll_back_to_a_version(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.split({1: 1, 2: 1})
    deployment.rollback(to=3)
    assert versions(client, 5) == {3: 5}
    deployment.split({3: 1, 2: 1})
    deployment.rollback(to=2)
    assert versions(client, 5) == {2: 5}


def test_roll_back_with_nothing_before_it_ends_a_shadow(deployment: mlnb.Deployment) -> None:
    deployment.shadow(2)
    deployment.rollback(reason="enough")
    assert deployment.traffic.simple  # type: ignore[union-attr]
    assert (last(deployment).action, last(deployment).version, last(deployment).reason) == ("unshadowed", 2, "enough")
    before = state(deployment)
    with pytest.raises(NoPreviousVersionError):
        deployment.rollback()
    assert state(deployment) == before


def test_what_happened_is_in_the_history(deployment: mlnb.Deployment) -> None:
    begin = len(deeds(deployment))
    deployment.split({1: 90, 2: 10}, key="user")
    deployment.shadow(3, share=50)
    deployment.shadow(None)
    deployment.promote(2, reason="good")
    deployment.canary(3, hold=9)
    deployment.rollback(reason="no")
    deployment.stop()
    assert deeds(deployment)[begin:] == [
        ("split", 1), ("shadowed", 3), ("unshadowed", 3), ("promoted", 2), ("canary", 3), ("rolled back", 2),
        ("stopped", 2),
    ]  # fmt: skip
    traffic: list[Any] = [event.traffic for event in deployment.registry.history("flowers")[begin:]]
    assert (traffic[0]["key"], traffic[0]["weights"]) == ("user", {"1": 90.0, "2": 10.0})
    assert traffic[1] == {"share": 50.0}
    assert traffic[4] == {"steps": [1.0, 5.0, 25.0, 100.0], "hold": 9.0}


def test_stopped_and_deployed_again_it_is_simple(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.split({1: 1, 2: 1})
    deployment.stop()
    assert deployment.traffic is None
    for verb in (deployment.experiment, deployment.disagreements, lambda: deployment.feedback("a", "rose")):
        with pytest.raises(StoppedError):
            verb()
    deployment.start()
    assert versions(client, 5) == {1: 5}


# ---- bad input ----


def other_signature(registry: mlnb.ModelRegistry, example: pd.DataFrame) -> int:
    return registry.register(Flowers(1), "flowers", example=example).number


BAD: list[tuple[str, Callable[[Any], Any], type[MlnbError], str]] = [
    ("negative", lambda one: one.split({1: -1, 2: 2}), InvalidInputError, "1 has -1"),
    ("all zero", lambda one: one.split({1: 0, 2: 0}), InvalidInputError, "all of these are 0"),
    ("NaN", lambda one: one.split({"champion": math.nan, 2: 1}), InvalidInputError, "'champion' has nan"),
    ("infinite", lambda one: one.split({1: math.inf, 2: 1}), InvalidInputError, "1 has inf"),
    ("text", lambda one: one.split({1: "90", 2: 1}), InvalidInputError, "1 has '90'"),
    ("none", lambda one: one.split({}), InvalidInputError, "Weights are numbers"),
    ("list", lambda one: one.split([90, 10]), InvalidInputError, "Weights are numbers"),
    ("unknown version", lambda one: one.split({1: 1, 9: 1}), ModelNotFoundError, "9"),
    ("unknown alias", lambda one: one.split({1: 1, "best": 1}), MlnbError, "best"),
    ("another model", lambda one: one.split({1: 1, "iris:1": 1}), InvalidInputError, "another model"),
    ("no reference", lambda one: one.split({1: 1, "a b": 1}), MlnbError, "a b"),
    ("a truth", lambda one: one.split({True: 1, 2: 1}), InvalidInputError, "True is no version"),
    ("twice", lambda one: one.split({"champion": 1, 1: 2}), InvalidInputError, "are both flowers:1"),
    ("key", lambda one: one.split({1: 1}, key="customer"), InvalidInputError, "no such field; there are: size, user"),
    ("shadow that answers", lambda one: one.shadow(1), InvalidInputError, "answers requests already"),
    ("shadow of nothing", lambda one: one.shadow(9), ModelNotFoundError, "9"),
    ("shadow share", lambda one: one.shadow(2, share=0), InvalidInputError, "above 0 and at most 100"),
    ("canary of itself", lambda one: one.canary(1), InvalidInputError, "live already"),
    ("canary of nothing", lambda one: one.canary(9), ModelNotFoundError, "9"),
    ("steps fall", lambda one: one.canary(2, steps=(5, 1, 100)), InvalidInputError, "that rise"),
    ("steps end", lambda one: one.canary(2, steps=(5, 101)), InvalidInputError, "that rise"),
    ("steps none", lambda one: one.canary(2, steps=()), InvalidInputError, "that rise"),
    ("hold", lambda one: one.canary(2, hold="soon"), InvalidInputError, "hold='soon'"),
    ("guard", lambda one: one.canary(2, guard={"luck": 1}), InvalidInputError, "no 'luck'"),
    ("guard value", lambda one: one.canary(2, guard={"errors": 2}), InvalidInputError, "errors cannot be 2"),
    ("promote another", lambda one: one.promote(3), InvalidInputError, "answers no requests here"),
    ("promote nothing", lambda one: one.promote(9), ModelNotFoundError, "9"),
    ("roll back to nothing", lambda one: one.rollback(to=9), ModelNotFoundError, "9"),
    ("replay of nothing", lambda one: one.replay(9), ModelNotFoundError, "9"),
    ("replay of no time", lambda one: one.replay(2, since="soon"), InvalidInputError, "soon"),
    ("feedback unknown", lambda one: one.feedback("nobody", "rose"), UnknownRequestError, "nobody"),
    ("feedback of nothing", lambda one: one.feedback([]), InvalidInputError, "not 0"),
    ("feedback of a number", lambda one: one.feedback(5), InvalidInputError, "not a int"),
]  # fmt: skip

STATES: dict[str, Callable[[mlnb.Deployment], Any]] = {
    "simple": lambda _: None,
    "split": lambda one: one.split({1: 60, 2: 40}),
    "shadow": lambda one: one.shadow(2),
    "canary": lambda one: one.canary(2, hold=1000),
}


def state(deployment: mlnb.Deployment) -> tuple[Any, ...]:
    """Return what must not change."""
    traffic = deployment.traffic
    assert traffic is not None
    shadow, canary = traffic.shadow, traffic.canary
    return (
        traffic.live, traffic.shares, traffic.key, shadow and (shadow.version, shadow.share),
        canary and (canary.plan, canary.step), deployment.version, deployment._hosted, deeds(deployment),
        deployment.replicas, deployment.snapshot().previous,
    )  # fmt: skip


@pytest.mark.parametrize("begin", STATES)
def test_bad_input_is_one_clear_error_and_changes_nothing(
    deployment: mlnb.Deployment, client: httpx.Client, begin: str
) -> None:
    STATES[begin](deployment)
    before = state(deployment)
    keys = [{"X-Routing-Key": str(key)} for key in range(20)]
    answers = [ask(client, headers=one)["version"] for one in keys]
    for name, verb, error, words in BAD:
        with pytest.raises(MlnbError) as caught:
            verb(deployment)
        if begin in ("simple", "shadow"):
            assert isinstance(caught.value, error), name
            assert words in str(caught.value), name
        assert "\n" not in str(caught.value), name
        assert state(deployment) == before, name
    assert [ask(client, headers=one)["version"] for one in keys] == answers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"example": EXAMPLE.assign(colour=["a", "b", "a", "b"])}, "needs the field 'colour'"),
        ({"example": EXAMPLE[["size"]]}, "does not know the field 'user'"),
        ({"example": EXAMPLE[["user", "size"]]}, "in another order, from 'size' on"),
        ({"example": EXAMPLE.assign(size=["1", "2", "3", "4"])}, "its field 'size' is of the kind 'text'"),
        ({"example": EXAMPLE.assign(size=[1, 2, 3, 4])}, "its field 'size' is of the kind 'integer', not 'number'"),
    ],
)
def test_versions_that_do_not_fit_one_another(deployment: mlnb.Deployment, change: dict[str, Any], words: str) -> None:
    number = deployment.registry.register(Sized(), "flowers", **change).number
    before = state(deployment)
    verbs: list[Callable[[], Any]] = [
        lambda: deployment.split({1: 1, number: 1}),
        lambda: deployment.shadow(number),
        lambda: deployment.canary(number),
    ]
    for verb in verbs:
        with pytest.raises(InvalidInputError, match=words):
            verb()
        assert state(deployment) == before


class Sized:
    """Takes whatever has sizes."""

    def predict(self, rows: Any) -> Any:
        return np.where(np.asarray(rows["size"], float) > 5, "rose", "tulip")


def test_what_cannot_be_while_a_canary_or_a_split_is_on(deployment: mlnb.Deployment) -> None:
    deployment.canary(2, hold=1000)
    before = state(deployment)
    verbs: list[Callable[[], Any]] = [lambda: deployment.split({1: 1, 2: 1}), lambda: deployment.canary(3)]
    for verb in verbs:
        with pytest.raises(MlnbError, match=r"v2 is a canary.*Promote it, or roll back, first"):
            verb()
        assert state(deployment) == before
    deployment.rollback()
    deployment.split({1: 1, 2: 1})
    before = state(deployment)
    with pytest.raises(MlnbError, match="the requests are split between v1 and v2"):
        deployment.canary(3)
    assert state(deployment) == before


def test_bad_feedback_is_told_and_nothing_of_it_is_noted(deployment: mlnb.Deployment, client: httpx.Client) -> None:
    deployment.split({1: 1, 2: 1})
    ids = [ask(client)["request_id"] for _ in range(4)]
    deployment.feedback(ids[0], "rose")
    cases: list[tuple[Any, int, type[MlnbError], str]] = [
        ({"request_id": ids[0], "label": "tulip"}, 409, AlreadyLabelledError, ids[0]),
        ({"request_id": "nobody", "label": "rose"}, 404, UnknownRequestError, "nobody"),
        (
            {"request_id": ids[1], "label": "daisy"},
            422,
            InvalidInputError,
            "no label 'daisy'; there are: 'rose', 'tulip'",
        ),
        ({"request_id": ids[1], "label": ["rose", "rose"]}, 422, InvalidInputError, "had 1 row and got 2 labels"),
        ({"request_id": ids[1]}, 422, InvalidInputError, "needs a label or an outcome"),
        ({"request_id": ids[1], "label": "rose", "outcome": 1}, 422, InvalidInputError, "not both"),
        ({"request_id": ids[1], "outcome": "much"}, 422, InvalidInputError, "no finite number"),
        ({"request_id": ids[1], "outcome": 1}, 422, InvalidInputError, "cannot be mixed"),
        ({"label": "rose"}, 422, InvalidInputError, "names no 'request_id'"),
        ({"request_id": ids[1], "label": "rose", "why": 1}, 422, InvalidInputError, "has the keys ['why']"),
    ]
    for entry, status, error, words in cases:
        with pytest.raises(error) as caught:
            deployment.feedback([{"request_id": ids[2], "label": "rose"}, entry])
        assert words in str(caught.value)
        answer = client.post("/feedback", json={"feedback": [{"request_id": ids[2], "label": "rose"}, entry]})
        assert answer.status_code == status, answer.text
        assert words in answer.json()["detail"]
        assert answer.headers["content-type"] == "application/problem+json"
    for body in (b"{", b"[]", b"5", b"null", b'{"feedback": 5}', b'{"feedback": []}'):
        assert client.post("/feedback", content=body).status_code in (400, 422)
    assert sum(arm.tally.count for arm in deployment.experiment().arms) == 1
    deployment.feedback(ids[2], "rose")
    assert client.get("/feedback").status_code == 405
