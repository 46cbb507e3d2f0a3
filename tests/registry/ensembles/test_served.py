"""Ensembles behind HTTP: in the kernel, in a replica process, and out of a bucket."""

from __future__ import annotations

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from waiting import wait_until

import mlnb
from mlnb import Ensemble, ModelRegistry

FRAME, NUMBERS = load_iris(as_frame=True, return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[NUMBERS]
LENGTHS = list(FRAME.columns[::2])


def mixed(**settings: Any) -> Ensemble:
    torch.manual_seed(0)
    members = {
        "forest": RandomForestClassifier(5, random_state=0).fit(FRAME, NAMES),
        "lengths": LogisticRegression().fit(FRAME[LENGTHS], NAMES),
        "net": torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(dim=1)),
    }
    return Ensemble(members, **({"combine": "mean"} | settings))


def ask(url: str, rows: Any) -> Any:
    body = json.dumps({"instances": rows.to_dict("records"), "probabilities": True}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"content-type": "application/json"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
        return json.load(answer)


def test_in_the_kernel_and_in_a_process() -> None:
    ours = mixed()
    with mlnb.deploy(ours, name="mix", example=FRAME) as deployment:
        said = ask(deployment.url, FRAME[:70])
        assert said["prediction"] == ours.predict(FRAME[:70]).tolist()
        assert np.allclose(said["probabilities"], ours.predict_proba(FRAME[:70]))
        assert deployment.info()["model_type"].endswith("Ensemble")
        deployment.scale(1)
        assert ask(deployment.url, FRAME[:70])["prediction"] == said["prediction"]
        assert deployment.version.format == "ensemble"


def test_out_of_a_bucket(s3_url: str) -> None:
    registry = ModelRegistry(s3_url)
    registry.register(RandomForestClassifier(3).fit(FRAME, NAMES), "other", example=FRAME)
    ours = Ensemble(
        {"other": "other", **{name: one.model for name, one in mixed().members.items()}},
        combine="vote",
        registry=registry,
    )
    registry.register(ours, "mix", example=FRAME)
    with mlnb.deploy("mix", registry=registry, replicas=1) as deployment:
        assert (deployment.predict(FRAME) == ours.predict(FRAME)).all()


def together(deployment: mlnb.Deployment, held: Path, rows: list[Any]) -> list[Any]:
    """Ask one by one while the model is held up by the first: the others wait, and are one batch."""
    held.touch()
    with ThreadPoolExecutor(len(rows)) as clients:
        try:
            first = clients.submit(ask, deployment.url, rows[0])
            wait_until(lambda: deployment.snapshot().replicas[0].in_flight == 1)
            others = [clients.submit(ask, deployment.url, row) for row in rows[1:]]
            wait_until(lambda: deployment.view().in_flight == len(rows))
        finally:
            held.unlink()
        return [one.result() for one in (first, *others)]


def batches(deployment: mlnb.Deployment) -> int:
    return deployment.snapshot().replicas[0].batches


def test_a_row_that_a_member_fails_on_is_answered_without_it_alone(tmp_path: Path) -> None:
    held = tmp_path / "held"

    def picky(rows: pd.DataFrame) -> Any:
        while held.exists():
            time.sleep(0.002)  # between two looks at the condition
        if rows.to_numpy()[:, 0].min() < 0:
            raise ValueError("negative")
        return np.tile([0.0, 0.0, 1.0], (len(rows), 1))

    members = {name: one.model for name, one in mixed().members.items()} | {"picky": picky}
    bad = FRAME[:1].copy()
    bad.iloc[0, 0] = -1.0
    with mlnb.deploy(Ensemble(members, combine="mean", quorum=3), name="mix", example=FRAME) as deployment:
        rows = [FRAME[:1]] * 6 + [bad] + [FRAME[:1]] * 6
        said = together(deployment, held, rows)
        assert [one.get("missing", []) == ["picky"] for one in said] == [row is bad for row in rows]
        assert batches(deployment) == len(rows)  # what was together with the bad row was asked again
        assert not any("missing" in one for one in together(deployment, held, [FRAME[:1]] * 13))
        assert batches(deployment) == len(rows) + 2


def test_a_member_that_is_down_is_not_asked_about_each_row(tmp_path: Path) -> None:
    held, needed = tmp_path / "held", tmp_path / "needed"
    needed.touch()

    def down(rows: pd.DataFrame) -> Any:
        while held.exists():
            time.sleep(0.002)  # between two looks at the condition
        needed.stat()
        return np.tile([0.0, 0.0, 1.0], (len(rows), 1))

    members = {name: one.model for name, one in mixed().members.items()} | {"down": down}
    with mlnb.deploy(Ensemble(members, combine="mean", quorum=3), name="mix", example=FRAME) as deployment:
        needed.unlink()
        said = together(deployment, held, [FRAME[:1]] * 13)
        assert all(one["missing"] == ["down"] for one in said)
        assert batches(deployment) == 13  # each might have been in the way of the others
        said = together(deployment, held, [FRAME[:1]] * 13)
        assert all(one["missing"] == ["down"] for one in said)
        assert batches(deployment) == 15  # but they were not


def test_a_member_that_fails_in_a_process_is_named() -> None:
    def picky(rows: pd.DataFrame) -> Any:
        if rows.to_numpy()[0, 0] < 0:
            raise ValueError("negative")
        return np.tile([0.0, 0.0, 1.0], (len(rows), 1))

    members = {name: one.model for name, one in mixed().members.items()} | {"picky": picky}
    row = FRAME[:1].copy()
    row.iloc[0, 0] = -1.0
    with mlnb.deploy(Ensemble(members, combine="mean", quorum=3), name="mix", example=FRAME) as deployment:
        for replicas in (0, 1):
            deployment.scale(replicas)
            assert "missing" not in ask(deployment.url, FRAME[:1])
            said = ask(deployment.url, row)
            assert said["missing"] == ["picky"]
            assert said["prediction"] == mixed().predict(row).tolist()
            assert np.allclose(said["probabilities"], mixed().predict_proba(row))
