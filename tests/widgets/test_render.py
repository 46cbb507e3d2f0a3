from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recorded import recorded
from snapshots import HOSTILE, NOW, check, metrics, snapshot, version

from mlnb.errors import InvalidInputError, PredictionError
from mlnb.registry.rows.inference import infer_signature
from mlnb.scaling.acceleration.acceleration import Acceleration
from mlnb.serving.service import Answer
from mlnb.widgets.render import render, render_answer, render_failure, render_static


def test_the_card_of_a_live_deployment() -> None:
    regions = render(snapshot(metrics=metrics(requests=9, rows=12, rate=112.0, p50=1.2, p99=4.04, window_errors=1)))
    for html in regions.values():
        check(html)
    assert "v2 live · in kernel · up 3 min" in regions["header"]
    assert 'data-action="rollback" data-to="1">Roll back to v1' in regions["header"]
    assert 'data-state="live"' in regions["header"]
    assert "http://127.0.0.1:8000/models/tumour" in regions["address"]
    assert regions["form"].count("<input") == 2
    assert 'name="x0" value="1.5"' in regions["form"]
    assert regions["versions"].count("● live") == 1
    assert regions["versions"].count("Make live") == 1
    footer = regions["footer"]
    assert all(text in footer for text in ("112 req/s", "p50 1.2 ms", "p99 4.0 ms", "1 error", "<svg"))
    assert "9 requests · 12 rows · 0 errors" in regions["activity"]


def test_the_first_version_offers_no_roll_back() -> None:
    assert "Roll back" not in render(snapshot(previous=None))["header"]


def test_a_stopped_deployment_offers_to_start() -> None:
    regions = render(snapshot(state="stopped"))
    assert "v2 stopped" in regions["header"]
    assert 'data-action="start"' in regions["header"]
    assert 'data-action="stop"' not in regions["header"]
    assert "● live" not in regions["versions"]


@pytest.mark.parametrize(
    ("age", "says"),
    [
        (5, "less than a minute"),
        (60, "up 1 min"),
        (3599, "up 59 min"),
        (7300, "up 2 h"),
        (90_000, "up 1 day"),
        (200_000, "up 2 days"),
    ],
)
def test_how_long_it_is_up(age: int, says: str) -> None:
    assert says in render(snapshot(since=NOW - timedelta(seconds=age)))["header"]


def test_before_the_first_request_the_footer_says_so() -> None:
    assert "No requests yet" in render(snapshot())["footer"]


@pytest.mark.parametrize(("rate", "says"), [(0.1, "0.1 req/s"), (12.34, "12.3 req/s"), (12_345.6, "12,346 req/s")])
def test_rates_keep_three_digits(rate: float, says: str) -> None:
    assert says in render(snapshot(metrics=metrics(requests=1, rate=rate, p99=1234.5)))["footer"]


def test_the_last_error_is_shown() -> None:
    failed = metrics(requests=1, errors=1, last_error=f"ValueError: {HOSTILE}", last_error_at=NOW.timestamp() - 7)
    regions = render(snapshot(metrics=failed))
    assert "Last error, 7 s ago: ValueError: &quot;&gt;" in regions["activity"]
    check(regions["activity"])


def test_many_fields_are_folded() -> None:
    form = render(snapshot(version=version(example=np.ones((1, 30)))))["form"]
    assert "24 more" in form
    assert form.count("<input") == 30


def test_choices_are_choices() -> None:
    frame = pd.DataFrame(
        {"member": [True], "plan": pd.Categorical(["free"], categories=["free", "paid"]), "city": ["Delft"]}
    )
    form = render(snapshot(version=version(example=frame)))["form"]
    assert "<option selected>true</option>" in form
    assert "<option selected>free</option><option>paid</option>" in form
    assert 'inputmode="text"' in form


def test_without_known_fields_there_is_one_for_json() -> None:
    unknown = recorded(signature=replace(version().signature, fields=(), container="any"))
    regions = render(snapshot(version=unknown))
    assert "one row, as JSON" in regions["form"]
    check(regions["form"])
    check(regions["address"])


def test_what_users_write_is_escaped() -> None:
    example = pd.DataFrame({HOSTILE: [1.0], "city": [HOSTILE]})
    hostile = version(example=example, description=HOSTILE)
    shown = snapshot(version=hostile, versions=(hostile,))
    for html in [
        *render(shown).values(),
        render_static(shown),
        render_failure(InvalidInputError(HOSTILE, field=HOSTILE)),
    ]:
        check(html)
        assert "<script" not in html


def test_an_answer_with_probabilities() -> None:
    answer = Answer(
        prediction=np.array(["malignant"]), probabilities=np.array([[0.03, 0.97]]), version=version(),
        request_id="7f3a", seconds=0.0031,
    )  # fmt: skip
    html = render_answer(answer)
    check(html)
    assert html.index("malignant</span>") < html.index("benign</span>")
    assert "0.97" in html
    assert "3.1 ms · v2 · request 7f3a" in html


@pytest.mark.parametrize(
    ("value", "says"), [(np.float64(152.1334), "152.133"), (np.int64(7), "7"), (np.bool_(True), "true")]
)
def test_an_answer_without(value: Any, says: str) -> None:
    answer = Answer(prediction=np.array([value]), probabilities=None, version=version(), request_id="r", seconds=0.1)
    assert f">{says}</output>" in render_answer(answer)


def test_the_models_own_failure_is_shown_to_its_owner() -> None:
    error = PredictionError("ValueError: no such <thing>")
    assert "The model failed on this input" in render_failure(error)
    assert "(ValueError: no such &lt;thing&gt;)" in render_failure(error)


def test_the_static_page_needs_no_style_and_no_script() -> None:
    html = render_static(snapshot())
    tags = check(html)
    assert "table" in tags
    assert "style" not in tags
    assert "curl -X POST http://127.0.0.1:8000/models/tumour/predict" in html
    assert "accuracy 0.97" in html


def test_the_static_page_says_where_it_runs_and_how_it_got_faster() -> None:
    faster = Acceleration(kind="onnx", reason="ONNX Runtime: 41x faster, <same> labels.")
    html = render_static(snapshot(place="2 processes", acceleration=faster))
    check(html)
    assert "v2 live · 2 processes · up 3 min" in html
    assert "ONNX Runtime: 41x faster, &lt;same&gt; labels." in html


def test_a_tensor_is_typed_as_json_and_numbers_that_are_categories_are_chosen() -> None:
    images = recorded(signature=infer_signature(None, np.zeros((2, 2, 2))))
    form = render(snapshot(version=images))["form"]
    assert "one row of shape (2, 2), as JSON" in form
    assert 'value="[[0.0, 0.0], [0.0, 0.0]]"' in form
    check(form)
    frame = pd.DataFrame({"size": pd.Categorical([38, 40]), "smoker": pd.Categorical([True, False])})
    form = render(snapshot(version=recorded(signature=infer_signature(None, frame))))["form"]
    assert "<option selected>38</option><option>40</option>" in form
    assert "<option>false</option><option selected>true</option>" in form
    check(form)
