"""The measures are scikit-learn's own, on the same rows."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from mlnb.monitoring.quality.classes import CLASSES, judge_classes
from mlnb.monitoring.quality.findings import Findings, measured
from mlnb.monitoring.quality.numbers import NUMBERS, judge_numbers

Array = np.ndarray[Any, Any]


def drawn(classes: int, *, rows: int = 500, seed: int = 0, rounded: int = 3) -> tuple[Array, Array, Array]:
    """Return true classes, answers and probabilities, some of them tied."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), rows).round(rounded)
    probabilities[:, 0] = 1 - probabilities[:, 1:].sum(axis=1)
    truth = (probabilities.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return truth, probabilities.argmax(axis=1), probabilities


def objects(values: Array, names: tuple[Any, ...] | None = None) -> Array:
    """Return values, or the names at those places, as an array of (n, outputs) objects."""
    column = values[:, None] if values.ndim == 1 else values
    made = np.empty(column.shape, dtype=object)
    for at in np.ndindex(column.shape):
        made[at] = column[at].item() if names is None else names[column[at]]
    return made


def values(found: Findings) -> dict[str, float | None]:
    return {one.name: one.value for one in found.measures}


def words(found: Findings) -> dict[str, str]:
    return {one.name: one.words for one in found.measures}


# ---- classes ----


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("names", [("no", "yes"), (0, 1), (False, True), ("z", "a")])
def test_two_classes(names: tuple[Any, ...], seed: int) -> None:
    truth, answer, probabilities = drawn(2, seed=seed)
    found = judge_classes(objects(truth, names), objects(answer, names), probabilities, names)
    score = probabilities[:, 1]
    assert values(found) == pytest.approx({
        "accuracy": metrics.accuracy_score(truth, answer),
        "precision": metrics.precision_score(truth, answer),
        "recall": metrics.recall_score(truth, answer),
        "F1": metrics.f1_score(truth, answer),
        "ROC AUC": metrics.roc_auc_score(truth, score),
        "log loss": metrics.log_loss(truth, y_proba=probabilities),
        "Brier score": metrics.brier_score_loss(truth, score),
    })  # fmt: skip
    assert found.confusion == tuple(map(tuple, metrics.confusion_matrix(truth, answer).tolist()))
    assert found.classes == tuple(map(str, names))
    assert found.notes == (f"Precision, recall and F1 are of {names[1]!r}.",)
    observed, predicted = calibration_curve(truth, score, n_bins=10, strategy="quantile")
    assert [one.observed for one in found.calibration] == pytest.approx(observed.tolist())
    assert [one.predicted for one in found.calibration] == pytest.approx(predicted.tolist())
    assert sum(one.count for one in found.calibration) == 500


@pytest.mark.parametrize("classes", [3, 7])
def test_more_classes_are_averaged(classes: int) -> None:
    truth, answer, probabilities = drawn(classes)
    names = tuple(f"class {at}" for at in range(classes))
    found = judge_classes(objects(truth, names), objects(answer, names), probabilities, names)
    averaged = {"average": "macro", "zero_division": 0.0}
    assert values(found) == pytest.approx({
        "accuracy": metrics.accuracy_score(truth, answer),
        "precision": metrics.precision_score(truth, answer, **averaged),
        "recall": metrics.recall_score(truth, answer, **averaged),
        "F1": metrics.f1_score(truth, answer, **averaged),
        "ROC AUC": metrics.roc_auc_score(truth, probabilities, multi_class="ovr"),
        "log loss": metrics.log_loss(truth, y_proba=probabilities),
        "Brier score": metrics.brier_score_loss(truth, probabilities),
    })  # fmt: skip
    assert found.confusion == tuple(map(tuple, metrics.confusion_matrix(truth, answer).tolist()))
    assert found.notes == (
        f"Precision, recall and F1 are macro averages over {classes} classes.",
        f"ROC AUC is the average over {classes} classes, each against the rest.",
        "Calibration is of the likeliest class.",
    )
    right = truth == probabilities.argmax(axis=1)
    observed, _ = calibration_curve(right, probabilities.max(axis=1), n_bins=10, strategy="quantile")
    assert [one.observed for one in found.calibration] == pytest.approx(observed.tolist())


def test_rare_classes_are_left_out_of_the_averages() -> None:
    truth, answer, _ = drawn(3)
    truth[:3], answer[:2] = 3, 4
    found = judge_classes(objects(truth), objects(answer), None, None)
    expected = metrics.f1_score(truth, answer, labels=[0, 1, 2], average="macro")
    assert values(found)["F1"] == pytest.approx(expected)
    assert found.notes == (
        "Precision, recall and F1 are macro averages over 3 classes of 4, those with at least 5 labels.",
    )
    assert found.classes == ("0", "1", "2", "3", "4")


def test_several_outputs_are_averaged() -> None:
    truth, answer = (np.random.default_rng(seed).integers(0, 3, (200, 2)) for seed in (1, 2))
    answer[:100] = truth[:100]
    found = judge_classes(objects(truth), objects(answer), None, None)
    each = [metrics.f1_score(truth[:, at], answer[:, at], average="macro") for at in (0, 1)]
    assert values(found)["F1"] == pytest.approx(np.mean(each))
    assert values(found)["accuracy"] == pytest.approx((truth == answer).mean())
    assert words(found)["ROC AUC"] == "not said of several outputs"
    assert found.notes[0].startswith("Averages over 2 outputs")
    assert found.confusion == ()
    for one in found.measures[:4]:
        assert one.value is not None
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.value < one.high


@pytest.mark.parametrize("rows", [0, 1, 29])
def test_too_few_rows_say_nothing(rows: int) -> None:
    truth, answer, probabilities = drawn(2, rows=rows)
    found = judge_classes(objects(truth), objects(answer), probabilities, (0, 1))
    assert words(found) == dict.fromkeys(CLASSES, f"not enough labels yet: {rows} of 30")
    assert found.calibration == ()


def test_a_rare_class_says_nothing_of_itself() -> None:
    truth = np.array([1] * 4 + [0] * 36)
    probabilities = np.column_stack([1 - truth * 0.6, truth * 0.6])
    found = judge_classes(objects(truth), objects(truth), probabilities, (0, 1))
    assert {words(found)[name] for name in ("precision", "recall", "F1", "ROC AUC")} == {
        "not enough labels yet: 4 of 5 of 1"
    }
    assert values(found)["accuracy"] == 1.0
    assert values(found)["log loss"] is not None


def test_the_area_is_of_the_classes_with_enough_labels() -> None:
    truth, answer, probabilities = drawn(4)
    keep = (truth != 3) | (np.cumsum(truth == 3) <= 4)
    truth, answer, probabilities = truth[keep], answer[keep], probabilities[keep]
    found = judge_classes(objects(truth), objects(answer), probabilities, (0, 1, 2, 3))
    each = [metrics.roc_auc_score(truth == at, probabilities[:, at]) for at in range(3)]
    assert values(found)["ROC AUC"] == pytest.approx(np.mean(each))
    assert "ROC AUC is the average over 3 classes, each against the rest." in found.notes
    alone = truth == 0
    one = judge_classes(objects(truth[alone]), objects(answer[alone]), probabilities[alone], (0, 1, 2, 3))
    assert words(one)["ROC AUC"] == "not enough labels yet: 0 of 5 of 1"


@pytest.mark.parametrize("labels", [(0, 1), None])
def test_one_class_only(labels: tuple[int, ...] | None) -> None:
    alone = objects(np.zeros(50, dtype=int))
    found = judge_classes(alone, alone, np.tile([0.9, 0.1], (50, 1)), labels)
    accuracy = found.measures[0]
    assert (accuracy.value, accuracy.high) == (1.0, 1.0)
    assert accuracy.low == pytest.approx(0.93, abs=0.01)
    assert values(found)["recall"] is None
    assert words(found)["ROC AUC"] == (
        "not enough labels yet: 0 of 5 of 1" if labels else "the model does not name its classes"
    )


def test_a_class_that_is_never_answered_has_no_precision() -> None:
    truth, answer = np.array([0, 1] * 30), np.zeros(60, dtype=int)
    found = judge_classes(objects(truth), objects(answer), None, (0, 1))
    assert words(found)["precision"] == "not enough answers yet: 0 of 5 of 1"
    assert (values(found)["recall"], values(found)["F1"]) == (0.0, 0.0)


def test_missing_answers_are_wrong_and_said() -> None:
    truth, answer, probabilities = drawn(2, rows=100)
    told, said = objects(truth, ("no", "yes")), objects(answer, ("no", "yes"))
    said[:3, 0], said[3, 0] = None, float("nan")
    found = judge_classes(told, said, probabilities, ("no", "yes"))
    assert values(found)["accuracy"] == pytest.approx((truth[4:] == answer[4:]).sum() / 100)
    assert "4 answers missing (NaN), counted as wrong." in found.notes
    assert found.classes == ("no", "yes", "no answer")
    assert sum(row[2] for row in found.confusion) == 4


def test_classes_that_the_model_does_not_know_are_said() -> None:
    truth, answer, probabilities = drawn(2, rows=100)
    told, said = objects(truth, ("no", "yes")), objects(answer, ("no", "yes"))
    told[:6, 0] = "maybe"
    found = judge_classes(told, said, probabilities, ("no", "yes"))
    assert "6 labels of classes that the model does not know." in found.notes
    assert found.classes[:3] == ("no", "yes", "maybe")
    assert values(found)["log loss"] == pytest.approx(metrics.log_loss(truth[6:], y_proba=probabilities[6:]))


def test_probabilities_of_some_rows() -> None:
    truth, answer, probabilities = drawn(2, rows=100)
    probabilities[:10] = np.nan
    probabilities[10] = (0.5, 0.9)
    probabilities[11] = (1.5, -0.5)
    found = judge_classes(objects(truth), objects(answer), probabilities[5:], (0, 1))
    assert values(found)["ROC AUC"] == pytest.approx(metrics.roc_auc_score(truth[12:], probabilities[12:, 1]))
    assert values(found)["accuracy"] == pytest.approx((truth == answer).mean())
    assert found.notes[1:] == ("10 rows without probabilities.", "2 rows whose probabilities do not add up to 1.")
    few = judge_classes(objects(truth), objects(answer), probabilities[80:], (0, 1))
    assert words(few)["log loss"] == "not enough labels yet: 20 of 30 with probabilities"


@pytest.mark.parametrize(
    ("shape", "labels", "said"),
    [
        ((100, 2), (0, 1, 2), "the probabilities do not fit the 3 classes"),
        ((100, 2), None, "the model does not name its classes"),
        (None, (0, 1, 2), "no probabilities"),
    ],
)
def test_probabilities_that_cannot_be_used(
    shape: tuple[int, int] | None, labels: tuple[int, ...] | None, said: str
) -> None:
    truth, answer, _ = drawn(3, rows=100)
    found = judge_classes(objects(truth), objects(answer), None if shape is None else np.full(shape, 0.5), labels)
    assert {words(found)[name] for name in ("ROC AUC", "log loss", "Brier score")} == {said}


def test_sure_and_wrong_is_costly_and_finite() -> None:
    truth = np.array([0, 1] * 20)
    found = judge_classes(objects(truth), objects(truth), np.tile([1.0, 0.0], (40, 1)), (0, 1))
    assert values(found)["log loss"] == pytest.approx(metrics.log_loss(truth, y_proba=np.tile([1.0, 0.0], (40, 1))))
    assert values(found)["ROC AUC"] == 0.5
    assert len(found.calibration) == 1


def test_the_confusion_of_many_classes_is_folded() -> None:
    truth = np.repeat(np.arange(60), np.arange(1, 61))
    found = judge_classes(objects(truth), objects(truth), None, None)
    assert len(found.classes) == 30
    assert found.classes[0] == "31"
    assert found.classes[-1] == "others"
    assert sum(map(sum, found.confusion)) == len(truth)
    assert found.confusion[-1][-1] == sum(range(32))


def test_classes_of_mixed_types() -> None:
    told = objects(np.array([0, 1] * 20), ("1", 1))
    found = judge_classes(told, told, None, None)
    assert values(found)["accuracy"] == 1.0
    assert len(found.classes) == 2


# ---- numbers ----


@pytest.mark.parametrize("outputs", [1, 3])
def test_numbers(outputs: int) -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(300, outputs)) * 5
    answer = truth + rng.standard_t(4, size=truth.shape)
    found = judge_numbers(truth, answer)
    assert values(found) == pytest.approx({
        "MAE": metrics.mean_absolute_error(truth, answer),
        "RMSE": metrics.root_mean_squared_error(truth, answer),
        "R²": metrics.r2_score(truth, answer),
    })  # fmt: skip
    for one in found.measures:
        assert one.value is not None
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.value < one.high
    assert found.notes == (("Averages over 3 outputs.",) if outputs > 1 else ())


def test_answers_that_are_no_numbers_are_left_out_and_said() -> None:
    truth, answer = np.arange(50.0)[:, None], np.arange(50.0)[:, None] + 1
    answer[:3], answer[3] = np.nan, np.inf
    found = judge_numbers(truth, answer)
    assert values(found)["MAE"] == 1.0
    assert found.notes == ("4 rows without a finite answer left out.",)
    few = judge_numbers(truth[:30], answer[:30])
    assert words(few) == dict.fromkeys(NUMBERS, "not enough labels yet: 26 of 30")


def test_a_constant_truth_has_no_r2() -> None:
    found = judge_numbers(np.full((40, 1), 2.0), np.full((40, 1), 2.5))
    assert words(found)["R²"] == "undefined: all labels are the same"
    assert [one.words for one in found.measures[:2]] == ["0.5 (0.5 to 0.5)"] * 2


def test_perfect_answers() -> None:
    truth = np.arange(40.0)[:, None]
    assert [one.words for one in judge_numbers(truth, truth).measures] == ["0 (0 to 0)", "0 (0 to 0)", "1 (1 to 1)"]


def test_answers_beyond_all_bounds_survive() -> None:
    truth = np.arange(40.0)[:, None]
    found = judge_numbers(truth, np.where(truth > 20, 1e200, truth))
    assert words(found)["RMSE"] == "no finite number"
    assert words(found)["R²"] == "no finite number"


@pytest.mark.parametrize(
    ("value", "interval", "said"),
    [
        (0.9412, (0.9066, 0.9643), "0.94 (0.91 to 0.96)"),
        (0.94, (0.9388, 0.9412), "0.9400 (0.9388 to 0.9412)"),
        (48231.4, (47900.2, 48500.9), "48,231 (47,900 to 48,501)"),
        (1.5e9, (1.4e9, 1.6e9), "1.5e+09 (1.4e+09 to 1.6e+09)"),
        (sqrt(2), (sqrt(2), sqrt(2)), "1.414 (1.414 to 1.414)"),
    ],
)
def test_a_figure_has_as_many_digits_as_are_sure(value: float, interval: tuple[float, float], said: str) -> None:
    assert measured("a", value, interval).words == said
