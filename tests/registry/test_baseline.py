from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from mlnb import Ensemble, ModelRegistry
from mlnb.monitoring.drift import assess
from mlnb.registry.baselines import measured
from mlnb.registry.predictors import predictor
from mlnb.registry.rows.baseline import Baseline, ColumnBaseline, column_values, make_baseline, repeats
from mlnb.registry.rows.inference import infer_signature


def of(example: Any, *, model: Any = None, answers: list[Any] | None = None) -> Baseline:
    asked = model or (lambda rows: np.array(answers or [0] * len(rows), dtype=object if answers else None))
    found = measured(predictor(asked), infer_signature(model, example), example)
    assert found is not None
    return found


def column(example: Any) -> ColumnBaseline:
    (found,) = of(example).columns
    return found


def test_of_few_numbers_all_are_kept() -> None:
    found = column(np.array([[3.0], [1.0], [np.nan], [2.0]]))
    assert found == ColumnBaseline(
        name="x0", kind="numbers", known=3, missing=1, sample=(1.0, 2.0, 3.0), low=1.0, high=3.0,
        deviation=float(np.std([1, 2, 3])),
    )  # fmt: skip


def test_of_many_numbers_1000_at_even_ranks_are_kept_with_the_range_of_all() -> None:
    found = column(np.random.default_rng(0).permutation(50_000.0 + np.arange(50_000)).reshape(-1, 1))
    assert (found.known, len(found.sample)) == (20_000, 1_000)
    assert (found.low, found.high) == (50_000.0, 99_999.0)
    assert np.median(found.sample) == pytest.approx(75_000, rel=0.01)
    assert list(found.sample) == sorted(found.sample)


def test_wide_examples_keep_fewer_of_each() -> None:
    found = of(np.random.default_rng(0).normal(size=(1_500, 500)))
    assert {len(one.sample) for one in found.columns} == {500}


def test_booleans_categories_and_text_are_counted() -> None:
    frame = pd.DataFrame(
        {
            "yes": [True, False, True],
            "kind": pd.Categorical(["u", None, "u"], categories=["u", "v"]),
            "word": list("aba"),
        }
    )
    yes, kind, word = of(frame).columns
    assert yes.counts == ((True, 2), (False, 1))
    assert (kind.counts, kind.known, kind.missing) == ((("u", 2),), 2, 1)
    assert dict(word.counts) == {"a": 2, "b": 1}
    assert {one.kind for one in (yes, kind, word)} == {"categories"}


def test_beyond_200_categories_the_others_are_the_rest() -> None:
    words = [f"w{at}" for at in range(300)] * 3
    found = column(pd.DataFrame({"word": words}))
    assert (len(found.counts), found.known, found.rest) == (200, 900, 300)


def test_of_texts_that_nearly_all_differ_the_lengths_are_kept() -> None:
    found = column(["." * at for at in range(40)])
    assert (found.name, found.kind, found.sample[:3], found.high) == ("text", "texts", (0.0, 1.0, 2.0), 39.0)


def test_of_tensors_the_means_are_kept() -> None:
    found = column(np.arange(8.0).reshape(2, 2, 2))
    assert (found.name, found.sample) == ("tensor", (1.5, 5.5))


@pytest.mark.parametrize("form", ["list", "dicts", "pandas", "polars", "arrow"])
def test_every_form_of_the_example_says_the_same(form: str) -> None:
    frame = pd.DataFrame({"a": np.arange(25_000.0), "b": ["x", "y"] * 12_500})
    example = {
        "list": frame.astype(object).to_numpy().tolist(), "dicts": frame.to_dict("records"), "pandas": frame,
        "polars": pl.from_pandas(frame), "arrow": pa.Table.from_pandas(frame),
    }[form]  # fmt: skip
    if form == "list":
        example = [[row[0]] for row in example]
    found = of(example)
    assert found.rows == 20_000
    assert found.columns[0].sample == of(frame).columns[0].sample


def test_rows_that_do_not_fit_are_left_out() -> None:
    example = np.arange(60.0).reshape(-1, 1)
    example[7] = np.inf
    assert of(example).rows == 59
    example[:] = np.inf
    assert measured(predictor(len), infer_signature(None, example), example) is None


def test_without_columns_there_is_none() -> None:
    assert measured(predictor(len), infer_signature(None), None) is None
    assert make_baseline(infer_signature(None), np.zeros((2, 2))) is None
    times = pd.DataFrame({"at": pd.to_datetime(["2026-01-01", "2026-01-02"])})
    assert measured(predictor(lambda rows: [0] * len(rows)), infer_signature(None, times), times) is None


def test_the_models_answers_are_kept() -> None:
    rows, labels = load_iris(return_X_y=True)
    found = of(rows, model=LogisticRegression(max_iter=1000).fit(rows, labels)).prediction
    assert found is not None
    assert (found.kind, found.known, {value for value, _ in found.counts}) == ("categories", 150, {0, 1, 2})
    number = of(rows, model=LinearRegression().fit(rows, labels)).prediction
    assert number is not None
    assert (number.kind, number.known) == ("numbers", 150)


def test_of_a_sorted_example_rows_from_everywhere_are_answered() -> None:
    rows = np.repeat([[0.0], [1.0]], 2_000, axis=0)
    found = of(rows, model=LogisticRegression().fit(rows, rows[:, 0])).prediction
    assert found is not None
    assert found.known == 1_000
    assert found.counts[0][1] == pytest.approx(500, abs=60)


def test_a_slow_model_is_asked_for_a_quarter_of_a_second() -> None:
    def slow(rows: Any) -> Any:
        time.sleep(0.002 * len(rows))
        return [0] * len(rows)

    rows = np.arange(1_000.0).reshape(-1, 1)
    found = measured(predictor(slow), infer_signature(None, rows), rows)
    assert found is not None
    assert found.prediction is not None
    assert 10 <= found.prediction.known <= 125


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: 1 / 0,
        lambda rows: np.zeros((len(rows), 3)),
        lambda rows: [{}] * len(rows),
    ],
)
def test_answers_that_are_no_column_are_left_out(answer: Any) -> None:
    rows = np.arange(50.0).reshape(-1, 1)
    found = measured(predictor(answer), infer_signature(None, rows), rows)
    assert found is not None
    assert found.prediction is None


def test_what_is_stored_is_read_back_the_same() -> None:
    frame = pd.DataFrame({"a": [1.5, None, 2.5], "b": ["x", "y" * 300, None], "c": [True, False, True]})
    found = of(frame, answers=[2**70, "\ud83d", None])
    assert Baseline.from_json(found.to_json()) == found


@pytest.mark.parametrize("different", [1, 4, 75, 285, 2_000])
def test_repeats_say_of_how_many_rows_they_were_drawn(different: int) -> None:
    rng = np.random.default_rng(different)
    rows = rng.integers(different, size=1_000)
    texts = np.empty(1_000, dtype=object)
    texts[:] = [f"{at}" for at in rows]
    assert 1 / repeats({"a": rows / 7, "b": texts}) == pytest.approx(different, rel=0.1)


def test_rows_that_all_differ_do_not_repeat() -> None:
    assert repeats({"a": np.arange(1_000.0), "b": np.full(1_000, np.nan)}) == pytest.approx(0.0, abs=1e-12)
    assert repeats({}) == repeats({"a": np.array([1.0])}) == 0.0


def test_a_value_that_became_frequent_leaves_the_other_rows_their_weight() -> None:
    rows = np.where(np.arange(1_000) % 2, np.nan, np.arange(1_000.0))
    assert 500 < 1 / repeats({"a": rows}) < 1_000


# ---- in a registry ----


def test_a_registry_keeps_it(tmp_path: Path) -> None:
    rows, labels = load_iris(return_X_y=True, as_frame=True)
    registry = ModelRegistry(tmp_path / "one")
    version = registry.register(LogisticRegression(max_iter=1000).fit(rows, labels), "iris", example=rows)
    assert version.baseline_digest in version.contents
    found = registry.baseline("iris")
    assert found is not None
    assert found.rows == 150
    assert [one.name for one in found.columns] == list(rows.columns)
    registry.collect()
    assert registry.baseline(version) == found
    registry.copy("iris", tmp_path / "two")
    assert ModelRegistry(tmp_path / "two").baseline("iris") == found
    window = column_values(version.signature, version.signature.check(rows.sample(120, random_state=0)))
    assert assess(found, window).drifted == ()


def test_without_an_example_a_registry_has_none(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path)
    version = registry.register(lambda rows: rows, "f")
    assert version.baseline_digest is None
    assert registry.baseline("f") is None


def test_records_of_before_there_were_baselines_are_read(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path)
    version = registry.register(DummyClassifier().fit([[0.0]], [1]), "old", example=np.array([[0.0]]))
    stored = version.to_json()
    del stored["baseline_digest"]
    old = type(version).from_json(stored, read_signature=version.read_signature)
    assert (old.baseline_digest, registry.baseline(old)) == (None, None)
    assert old.contents == version.contents[:-1]


def test_members_of_an_ensemble_have_their_own(tmp_path: Path) -> None:
    rows, labels = load_iris(return_X_y=True)
    models = {name: LogisticRegression(max_iter=1000, C=c).fit(rows, labels) for name, c in (("a", 1.0), ("b", 0.1))}
    registry = ModelRegistry(tmp_path)
    registry.register(Ensemble(models, combine="vote"), "both", example=rows)
    assert registry.baseline("both") is not None
    assert registry.baseline("both-a") is not None
