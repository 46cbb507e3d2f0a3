"""Labels that came are kept in fixed memory, and reported by version and window."""

from __future__ import annotations

import pickle
import time
from typing import Any

import numpy as np
import pytest

from mlnb.monitoring.quality import CalibrationBin, Labelled, Measure, QualityReport
from mlnb.monitoring.quality.labelled import VERSIONS
from mlnb.monitoring.quality.rows import ROWS

NAMES = ("no", "yes")


def noted(count: int, *, version: int = 1, right: float = 0.8, start: int = 0, sure: bool = True) -> Labelled:
    """Return labels of one-row requests: "r0", "r1", .. that came a second apart."""
    labelled = Labelled()
    note(labelled, count, version=version, right=right, start=start, sure=sure)
    return labelled


def note(
    labelled: Labelled, count: int, *, version: int = 1, right: float = 0.8, start: int = 0, sure: bool = True
) -> None:
    for at in range(start, start + count):
        truth, hit = at % 2, at * 7 % 100 < 100 * right
        answer = truth if hit else 1 - truth
        given = np.array([[0.9, 0.1]] if answer == 0 else [[0.2, 0.8]])
        labelled.note(
            version, at=float(at), truth=[NAMES[truth]], prediction=np.array([NAMES[answer]]),
            probabilities=given if sure else None, request_id=f"r{at}",
        )  # fmt: skip


def report(
    labelled: Labelled, version: int = 1, *, since: float | None = None, window: str = "all time"
) -> QualityReport:
    return labelled.report(version, window_name=window, since=since, labels=NAMES, output="class")


def value(found: QualityReport, name: str) -> float | None:
    measure = found.measure(name)
    assert measure is not None
    return measure.value


# ---- reports ----


def test_a_report_of_classes() -> None:
    found = report(noted(200))
    assert (found.version, found.window, found.task, found.labels) == (1, "all time", "classes", 200)
    assert [one.name for one in found.measures] == [
        "accuracy", "precision", "recall", "F1", "ROC AUC", "log loss", "Brier score",
    ]  # fmt: skip
    assert value(found, "accuracy") == 0.8
    assert sum(one.count for one in found.calibration) == 200
    assert found.classes == NAMES
    assert sum(map(sum, found.confusion)) == 200
    assert found.words.startswith("v1, all time: accuracy 0.80 (0.74 to 0.85), 200 labelled rows. Precision, recall")
    assert found.measure("MAE") is None


def test_a_report_of_numbers() -> None:
    labelled = Labelled()
    for at in range(20):
        labelled.note(4, at=at, truth=np.array([at, 2.0 * at]), prediction=np.array([at + 1, 2 * at + 1]))
    found = labelled.report(4, window_name="all time", labels=None, output="number")
    assert (found.task, found.labels) == ("numbers", 40)
    assert [one.name for one in found.measures] == ["MAE", "RMSE", "R²"]
    assert value(found, "MAE") == 1.0
    assert (found.confusion, found.calibration, found.classes) == ((), (), ())


@pytest.mark.parametrize(("output", "task"), [("any", "numbers"), ("number", "numbers"), ("class", "classes")])
def test_the_task_follows_the_output_and_then_the_labels(output: str, task: str) -> None:
    labelled = Labelled()
    labelled.note(1, at=0.0, truth=np.array([1.5]), prediction=np.array([1.0]))
    assert labelled.report(1, window_name="1 hour", labels=None, output=output).task == task
    labelled.note(2, at=0.0, truth=["a"], prediction=np.array(["a"]))
    assert labelled.report(2, window_name="1 hour", labels=None, output="any").task == "classes"


def test_texts_where_numbers_should_be_survive() -> None:
    labelled = Labelled()
    for at in range(40):
        labelled.note(1, at=at, truth=["a"], prediction=np.array(["b"]))
    found = labelled.report(1, window_name="all time", labels=None, output="number")
    assert found.words.endswith("40 rows without a finite answer left out.")


def test_without_labels_there_is_no_figure() -> None:
    found = report(Labelled(), 9)
    assert found.labels == 0
    assert {one.words for one in found.measures} == {"not enough labels yet: 0 of 30"}
    assert repr(found) == found.words == "v9, all time: not enough labels yet: 0 of 30."
    assert found._repr_html_() == "<p>v9, all time: not enough labels yet: 0 of 30.</p>"
    assert "\naccuracy     0.8" in repr(report(noted(40)))
    empty = Labelled().report(9, window_name="all time", labels=None, output="number")
    assert [one.name for one in empty.measures] == ["MAE", "RMSE", "R²"]


def test_windows_are_by_when_the_label_came() -> None:
    labelled = noted(200)
    assert report(labelled, since=100.0).labels == 100
    assert report(labelled, since=199.5).labels == 0
    note(labelled, 50, start=0)  # the clock jumped back
    assert report(labelled, since=100.0).labels == 100
    assert report(labelled).labels == 250


def test_versions_are_apart() -> None:
    labelled = noted(100, version=1, right=0.9)
    note(labelled, 100, version=2, right=0.5)
    assert labelled.versions == (1, 2)
    assert [value(report(labelled, version), "accuracy") for version in (1, 2)] == [0.9, 0.5]


def test_a_report_is_made_once() -> None:
    labelled = noted(100)
    first = report(labelled, since=10.0)
    assert report(labelled, since=10.5) is not first
    again = report(labelled, since=10.9)
    assert again is report(labelled, since=11.0)
    note(labelled, 1, start=100)
    assert report(labelled, since=11.0).labels == 90


def test_answers_of_another_form_begin_anew() -> None:
    labelled = noted(100)
    labelled.note(1, at=0.0, truth=[["a", "b"]], prediction=np.array([["a", "c"]]))
    found = report(labelled)
    assert found.labels == 1
    assert "Of the newest 1 of 101 labelled rows." in found.words
    labelled.note(1, at=0.0, truth=[], prediction=np.array([]))
    assert report(labelled) is found


def test_several_outputs() -> None:
    labelled = Labelled()
    for at in range(40):
        labelled.note(1, at=at, truth=[[0, 1], [1, 0]], prediction=np.array([[0, 1], [1, 1]]))
        labelled.note(2, at=at, truth=np.array([[0.0, at]]), prediction=np.array([[1.0, at + 3.0]]))
    classes = labelled.report(1, window_name="all time", labels=None, output="class")
    assert (classes.labels, value(classes, "accuracy")) == (80, 0.75)
    numbers = labelled.report(2, window_name="all time", labels=None, output="number")
    assert (numbers.labels, value(numbers, "MAE")) == (40, 2.0)


# ---- memory ----


def test_the_newest_rows_are_kept() -> None:
    labelled = Labelled()
    for at in range(ROWS // 100 + 50):
        labelled.note(1, at=at, truth=["yes"] * 100, prediction=np.full(100, "no" if at < 50 else "yes"))
    found = report(labelled)
    assert (found.labels, value(found, "accuracy")) == (ROWS, 1.0)
    assert found.words.endswith("Of the newest 20,000 of 25,000 labelled rows.")
    assert "newest" not in report(labelled, since=200.0).words


def test_fewer_rows_are_kept_of_long_answers() -> None:
    labelled = Labelled()
    for at in range(30):
        labelled.note(1, at=at, truth=np.zeros((10, 5_000)), prediction=np.ones((10, 5_000)))
    assert labelled.report(1, window_name="all time", labels=None, output="number").labels == 100


def test_probabilities_of_many_classes_are_kept_for_fewer_rows() -> None:
    labelled, labels = Labelled(), tuple(range(3_000))
    for at in range(60):
        labelled.note(
            1, at=at, truth=[at % 3] * 5, prediction=np.full(5, at % 3), probabilities=np.full((5, 3_000), 1 / 3_000)
        )
    found = labelled.report(1, window_name="all time", labels=labels, output="class")
    assert found.labels == 300
    assert "200 rows without probabilities." in found.words
    assert value(found, "log loss") == pytest.approx(np.log(3_000))


def test_the_versions_labelled_last_are_kept() -> None:
    labelled = Labelled()
    for version in (1, 2, *range(3, VERSIONS + 1), 1, VERSIONS + 1):
        note(labelled, 1, version=version)
        assert report(labelled, version).labels in (1, 2)
    assert labelled.versions == (1, *range(3, VERSIONS + 2))
    assert report(labelled, 2).labels == 0


# ---- probabilities that come later ----


def test_probabilities_may_come_later() -> None:
    labelled, full = noted(100, sure=False), noted(100)
    assert labelled.waiting(1, most=3) == ["r99", "r98", "r97"]
    assert value(report(labelled), "ROC AUC") is None
    for at in range(100):
        answer = at % 2 if at * 7 % 100 < 80 else 1 - at % 2
        assert labelled.add_probabilities(1, f"r{at}", np.array([[0.9, 0.1]] if answer == 0 else [[0.2, 0.8]]))
    assert labelled.waiting(1, most=9) == []
    assert report(labelled) == report(full)


def test_late_probabilities_belong_to_their_rows() -> None:
    labelled = noted(50, sure=False)
    labelled.note(1, at=0, truth=["no", "yes"], prediction=np.array(["no", "yes"]), request_id="two")
    note(labelled, 50, start=50)
    assert labelled.add_probabilities(1, "two", np.array([[1.0, 0.0], [0.0, 1.0]]))
    (rows,) = labelled._versions.values()
    assert rows.probabilities is not None
    assert np.isnan(rows.probabilities[:50]).all()
    assert rows.probabilities[50:52].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert np.isfinite(rows.probabilities[52:]).all()


@pytest.mark.parametrize(
    ("version", "request_id", "given"),
    [(2, "r1", [[0.5, 0.5]]), (1, "other", [[0.5, 0.5]]), (1, "r1", [0.5, 0.5]), (1, "r1", [[0.5, 0.5], [0.5, 0.5]])],
)
def test_probabilities_that_fit_nothing_are_not_taken(version: int, request_id: str, given: list[Any]) -> None:
    labelled = noted(40, sure=False)
    assert not labelled.add_probabilities(version, request_id, np.array(given))
    assert value(report(labelled), "log loss") is None
    assert labelled.waiting(2, most=9) == []


def test_probabilities_of_another_width_are_not_taken() -> None:
    labelled = noted(40, sure=False)
    assert labelled.add_probabilities(1, "r1", np.array([[0.5, 0.5]]))
    assert not labelled.add_probabilities(1, "r2", np.array([[0.2, 0.3, 0.5]]))
    labelled.note(1, at=0, truth=["no"], prediction=np.array(["no"]), probabilities=np.array([0.1, 0.9]))
    assert "40 rows without probabilities." in report(labelled).words
    labelled.note(1, at=0, truth=["no"], prediction=np.array(["no"]), probabilities=np.array([[0.2, 0.3, 0.5]]))
    assert {one.words for one in report(labelled).measures[4:]} == {"the probabilities do not fit the 2 classes"}


def test_rows_that_are_gone_wait_no_more() -> None:
    labelled = Labelled()
    labelled.note(1, at=0, truth=["no"], prediction=np.array(["no"]), request_id="first")
    for at in range(ROWS // 1_000):
        labelled.note(1, at=at, truth=["no"] * 1_000, prediction=np.array(["no"] * 1_000), request_id=f"many {at}")
    assert len(labelled.waiting(1, most=99)) == ROWS // 1_000
    assert not labelled.add_probabilities(1, "first", np.array([[1.0, 0.0]]))


# ---- moving ----


def test_it_moves_between_processes() -> None:
    labelled = noted(100)
    moved = pickle.loads(pickle.dumps(labelled))
    assert report(moved) == report(labelled)
    note(moved, 5, start=100)
    assert (report(moved).labels, report(labelled).labels) == (105, 100)


def test_a_copy_is_apart() -> None:
    labelled = noted(40, sure=False)
    labelled.add_probabilities(1, "r1", np.array([[0.5, 0.5]]))
    copy = labelled.copy()
    copy.add_probabilities(1, "r0", np.array([[0.5, 0.5]]))
    note(copy, 1)
    assert report(labelled).labels == 40
    assert "39 rows without probabilities." in report(labelled).words
    assert "r0" in labelled.waiting(1, most=99)


def test_it_goes_on_from_another() -> None:
    early, late, all_of_it = noted(60, sure=False), noted(60, start=60), noted(60, sure=False)
    note(all_of_it, 60, start=60)
    note(early, 10, version=2)
    note(late, 10, version=3)
    late.join(early)
    assert report(late) == report(all_of_it)
    assert late.versions == (1, 2, 3)
    assert late.waiting(1, most=1) == ["r59"]
    assert late.add_probabilities(1, "r0", np.array([[0.5, 0.5]]))
    rows = late._versions[1]
    assert rows.probabilities is not None
    assert rows.probabilities[0].tolist() == [0.5, 0.5]
    assert report(early).labels == 60


def test_of_two_full_ones_the_newest_rows_are_kept() -> None:
    early, late = Labelled(), Labelled()
    for labelled, answer in ((early, "no"), (late, "yes")):
        for at in range(ROWS // 1_000 + 1):
            many = np.array([answer] * 1_000)
            labelled.note(1, at=at, truth=["yes"] * 1_000, prediction=many, request_id=f"{answer} {at}")
    late.join(early)
    found = report(late)
    assert (found.labels, value(found, "accuracy")) == (ROWS, 1.0)
    assert "Of the newest 20,000 of 42,000 labelled rows." in found.words
    assert late.add_probabilities(1, "yes 20", np.tile([0.0, 1.0], (1_000, 1)))
    assert report(late).words.count("19,000 rows without probabilities.") == 1


def test_probabilities_of_the_last_rows_only_are_joined_to_theirs() -> None:
    early, late, labels = noted(10, sure=False), Labelled(), tuple(range(30_000))
    for labelled in (early, late):
        for at in range(20):
            given = np.full((1, 30_000), 1 / 30_000)
            labelled.note(1, at=at, truth=[at], prediction=np.array([at]), probabilities=given)
    late.join(early)
    found = late.report(1, window_name="all time", labels=labels, output="class")
    assert found.labels == 50
    rows = late._versions[1]
    assert rows.probabilities is not None
    assert rows.probabilities.shape == (10, 30_000)
    assert np.isfinite(rows.probabilities).all()


def test_of_too_many_versions_the_own_are_kept() -> None:
    early, late = Labelled(), Labelled()
    for version in range(1, VERSIONS + 1):
        note(early, 1, version=version)
    note(late, 1, version=99)
    late.join(early)
    assert late.versions == (*range(2, VERSIONS + 1), 99)


def test_answers_of_another_form_are_not_joined() -> None:
    early, late = Labelled(), noted(40)
    early.note(1, at=0, truth=np.array([1.0]), prediction=np.array([1.0]))
    late.join(early)
    assert report(late).labels == 40


# ---- speed, with room for a busy machine ----


def test_noting_and_reporting_are_quick() -> None:
    began = time.process_time()
    labelled = noted(ROWS)
    assert time.process_time() - began < 1.0
    seconds = []
    for at in range(5):
        note(labelled, 1, start=ROWS + at)
        began = time.process_time()
        report(labelled)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.06


# ---- showing ----


def test_it_shows_as_text_and_as_a_table() -> None:
    labelled = Labelled()
    for at in range(40):
        labelled.note(1, at=at, truth=["<a>" if at % 2 else "b"], prediction=np.array(["<a>"]))
    found = labelled.report(1, window_name="1 hour", labels=("b", "<a>"), output="class")
    assert repr(found).splitlines()[1] == "accuracy     0.50 (0.35 to 0.65)"
    page = found._repr_html_()
    assert "<a>" not in page
    assert "&lt;a&gt;" in page
    assert page.count("<table") == 2
    assert "no probabilities" in page
    assert "0.50 (0.35 to 0.65)" in page


def test_a_confusion_of_many_classes_is_left_to_the_figure() -> None:
    labelled = Labelled()
    for at in range(40):
        labelled.note(1, at=at, truth=[at % 12], prediction=np.array([at % 12]))
    found = labelled.report(1, window_name="1 hour", labels=None, output="class")
    assert len(found.classes) == 12
    assert found._repr_html_().count("<table") == 1


def test_values_are_plain() -> None:
    found = pickle.loads(pickle.dumps(report(noted(100))))
    assert all(type(one) is Measure and type(one.low) is float for one in found.measures)
    assert all(type(one) is CalibrationBin and type(one.count) is int for one in found.calibration)
    assert type(found.confusion[0][0]) is int
