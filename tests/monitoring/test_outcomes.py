from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from mlnb.errors import AlreadyLabelledError, InvalidInputError, UnknownRequestError
from mlnb.events import PredictionEvent
from mlnb.monitoring.outcomes import KEPT, Label, Outcomes
from mlnb.monitoring.tally import Tally


def answered(request_id: str, *answers: Any, version: int = 1) -> PredictionEvent:
    prediction = np.array(answers)
    return PredictionEvent("iris", version, request_id, 0.0, 0.001, len(prediction), 200, prediction=prediction)


def outcomes(*events: PredictionEvent, labels: tuple[Any, ...] | None = (0, 1), output: str = "class") -> Outcomes:
    remembered = Outcomes(labels, output)
    remembered.remember(events)
    return remembered


# ---- scores ----


@pytest.mark.parametrize(
    ("labels", "output", "answers", "label", "score"),
    [
        ((0, 1), "class", [1], 1, 1.0),
        ((0, 1), "class", [1], 0, 0.0),
        ((0, 1), "class", [1], 1.0, 1.0),
        ((0, 1), "class", [1], np.int64(1), 1.0),
        ((0, 1), "class", [1], [1], 1.0),
        ((0, 1), "class", [1, 0, 1, 1], [1, 0, 0, 1], 0.75),
        ((0, 1), "class", [1, 0], np.array([1, 1]), 0.5),
        ((0.0, 1.0), "class", [1.0], 1, 1.0),
        ((np.str_("a"), np.str_("b")), "class", ["a"], "a", 1.0),
        ((False, True), "class", [True], True, 1.0),
        (None, "outlier", [-1], -1, 1.0),
        (None, "class", [[1, 0]], [1, 0], 1.0),
        (None, "class", [[1, 0], [1, 1]], [[1, 0], [0, 1]], 0.5),
        (None, "number", [2.5], 2, 0.5),
        (None, "number", [2, 4], [1, 1], 2.0),
        (None, "number", [[1.0, 2.0]], [1.0, 4.0], 1.0),
        (None, "any", [2.5], 2.0, 0.5),
        (None, "any", ["x"], "x", 1.0),
    ],
)
def test_the_score_of_a_label(labels: Any, output: str, answers: list[Any], label: Any, score: float) -> None:
    remembered = outcomes(answered("a", *answers), labels=labels, output=output)
    assert remembered.label([Label("a", label=label)]) == 1
    assert remembered.quality(1) == Tally(1, score, 0.0)


@pytest.mark.parametrize("outcome", [1, 0.5, True, np.float32(2.0), -3])
def test_an_outcome_is_its_own_score(outcome: Any) -> None:
    remembered = outcomes(answered("a", 1))
    remembered.label([Label("a", outcome=outcome)])
    assert remembered.quality(1).mean == float(outcome)
    assert (remembered.metric, remembered.goal) == ("outcome", "higher")


@pytest.mark.parametrize(
    ("output", "label", "metric", "goal", "proportion"),
    [("class", 1, "accuracy", "higher", True), ("number", 1.0, "mean absolute error", "lower", False)],
)
def test_the_metric_follows_the_model(output: str, label: Any, metric: str, goal: str, proportion: bool) -> None:
    remembered = outcomes(answered("a", 1), output=output, labels=None)
    remembered.label([Label("a", label=label)])
    assert (remembered.metric, remembered.goal, remembered.proportion) == (metric, goal, proportion)


def test_outcomes_are_no_shares_out_of_trials_either() -> None:
    remembered = outcomes(answered("a", 1), answered("b", 1))
    remembered.label([Label("a", outcome=1)])
    assert remembered.proportion
    remembered.label([Label("b", outcome=12.5)])
    assert not remembered.proportion


def test_fewer_can_be_the_better_outcome() -> None:
    assert Outcomes(None, "any", goal="lower").goal == "lower"


def test_versions_are_tallied_apart() -> None:
    remembered = outcomes(answered("a", 1), answered("b", 0, version=2))
    remembered.label([Label("a", label=1), Label("b", label=1)])
    assert (remembered.quality(1).mean, remembered.quality(2).mean) == (1.0, 0.0)
    assert remembered.quality(3) == Tally()


# ---- refusals ----


@pytest.mark.parametrize(
    ("label", "error", "words"),
    [
        (Label("zz", label=1), UnknownRequestError, r"no answered request 'zz' here; ids of the last 100,000 requests"),
        (Label("refused", label=1), UnknownRequestError, "no answered request 'refused'"),
        (Label("done", outcome=1.0), AlreadyLabelledError, "'done' was given a label, which the other cannot replace"),
        (Label("a", label=1), AlreadyLabelledError, "'a' is there twice, with two labels; give one"),
        (Label("b"), InvalidInputError, "needs a label or an outcome, and has neither"),
        (Label("b", label=1, outcome=1.0), InvalidInputError, "not both"),
        (Label("b", label=2), InvalidInputError, r"no label 2; there are: 0, 1\."),
        (Label("b", label="1"), InvalidInputError, "no label '1'"),
        (Label("b", label=float("nan")), InvalidInputError, "no label nan"),
        (Label("b", label={"x": 1}), InvalidInputError, "no label {'x': 1}"),
        (Label("b", label=[1, 0]), InvalidInputError, "it had 1 row and got 2 labels"),
        (Label("many", label=1), InvalidInputError, "had 3 rows and got 1 label"),
        (Label("many", label=[]), InvalidInputError, "had 3 rows and got 0 labels"),
        (Label("b", outcome=float("nan")), InvalidInputError, "is nan, which is no finite number"),
        (Label("b", outcome=1e200), InvalidInputError, "no finite number"),
        (Label("b", outcome="much"), InvalidInputError, "'much', which is no finite number"),  # type: ignore[arg-type]
        (Label("b", outcome=1.0), InvalidInputError, "cannot be mixed: request 'b' would be scored by outcome"),
        (Label("lost", label=1), InvalidInputError, "was not kept; give an outcome"),
    ],
)
def test_one_bad_label_and_nothing_is_noted(label: Label, error: type[Exception], words: str) -> None:
    refused = answered("refused")._replace(error="no", status=422, rows=0, prediction=None)
    lost = answered("lost", 1)._replace(prediction=None)
    remembered = outcomes(*(answered(name, 1) for name in ("done", "a", "b")), answered("many", 1, 1, 0), refused, lost)
    remembered.label([Label("done", label=1)])
    with pytest.raises(error, match=words) as caught:
        remembered.label([Label("a", label=0), label])
    assert str(caught.value).endswith(
        f"1 of 2 are refused ({label.request_id!r}), so none was noted; leave them out or mend them."
    )
    assert remembered.quality(1).count == 1
    assert remembered.label([Label("a", label=0)]) == 1


@pytest.mark.parametrize("label", ["x", [1.0, 2.0], [[1.0], [2.0, 3.0]], True, float("inf"), float("nan"), {"a": 1}])
def test_the_truth_of_a_number_is_a_finite_number(label: Any) -> None:
    with pytest.raises(InvalidInputError, match="Request 'a'"):
        outcomes(answered("a", 1.5), labels=None, output="number").label([Label("a", label=label)])


def test_an_answer_that_is_no_number_has_no_score() -> None:
    remembered = outcomes(answered("a", np.nan), answered("b", np.nan, 2.0), labels=None, output="number")
    assert remembered.label([Label("a", label=1.0), Label("b", label=[1.0, 1.5])]) == 2
    assert remembered.quality(1) == Tally(1, 0.5, 0.0)
    report = remembered.labelled.report(1, window_name="all time", labels=None, output="number")
    assert report.labels == 3
    assert "2 rows without a finite answer left out." in report.words


@pytest.mark.parametrize("label", [None, ["x", None], [["x"]], [{"a": 1}], {"a": 1}, float("nan"), [["a", "b"], "c"]])
def test_the_truth_of_a_class_is_a_text_or_a_number(label: Any) -> None:
    remembered = outcomes(answered("a", "x"), labels=None)
    with pytest.raises(InvalidInputError, match="Request 'a'"):
        remembered.label([Label("a", label=label)])
    assert remembered.refused == {"unknown": 0, "twice": 0, "wrong type": 1}


@pytest.mark.parametrize("label", [[1, 0, 1], [[1], [0]], [[1, 0], [1]]])
def test_the_truth_of_several_outputs_has_their_shape(label: Any) -> None:
    remembered = outcomes(answered("a", [1, 0]), labels=None)
    with pytest.raises(InvalidInputError, match="Request 'a'"):
        remembered.label([Label("a", label=label)])


def test_labels_after_outcomes_are_refused_within_a_trial_only() -> None:
    remembered = outcomes()
    remembered.trial({1: "a", 2: "b"})
    remembered.remember([answered(name, 1) for name in "abcd"])
    remembered.label([Label("a", outcome=1.0)])
    with pytest.raises(InvalidInputError, match="Begin a new trial"):
        remembered.label([Label("b", label=1)])
    remembered.trial(None)
    remembered.label([Label("b", label=0)])
    assert remembered.quality(1) == Tally(1, 0.0, 0.0)


def test_refused_labels_are_counted_by_what_is_wrong_with_them() -> None:
    remembered = outcomes(*(answered(name, 1) for name in "abcd"))
    remembered.label([Label("a", label=1)])
    given = [
        Label("b", label=1),
        Label("zz", label=1),
        Label("yy", label=1),
        Label("a", outcome=1.0),
        Label("c", label="x"),
    ]
    with pytest.raises(UnknownRequestError, match=r"'zz' .* 4 of 5 are refused \('zz', 'yy', 'a', …\)") as caught:
        remembered.label(given)
    assert caught.value.details == {"request_id": "zz", "refused": ["zz", "yy", "a", "c"]}
    with pytest.raises(AlreadyLabelledError, match="'d' is there twice"):
        remembered.label([Label("d", label=1), Label("d", label=0)])
    with pytest.raises(InvalidInputError, match="cannot be mixed"):
        remembered.label([Label("d", label=1), Label("c", outcome=1.0)])
    assert remembered.refused == {"unknown": 2, "twice": 2, "wrong type": 2}
    assert remembered.label([Label(name, label=1) for name in "bcd"]) == 3


# ---- the same label again, and another one ----


@pytest.mark.parametrize(
    ("labels", "output", "answers", "label", "again"),
    [
        ((0, 1), "class", [1], 1, [1.0]),
        ((0, 1), "class", [1, 0], [1, 1], np.array([1, 1])),
        (None, "class", [[1, 0]], [1, 0], [[1, 0]]),
        (None, "number", [2.5], 2, np.array([2.0])),
        (None, "number", [np.nan], 2, 2.0),
        (("a", "b"), "class", ["a"], "a", np.str_("a")),
    ],
)
def test_the_same_label_again_is_no_news(labels: Any, output: str, answers: list[Any], label: Any, again: Any) -> None:
    remembered = outcomes(answered("x", *answers), answered("y", *answers), labels=labels, output=output)
    remembered.trial({1: "a", 2: "b"})
    remembered.label([Label("x", label=label)])
    before = remembered.quality(1)
    assert remembered.label([Label("x", label=again)]) == 0
    assert remembered.label([Label("x", label=again), Label("y", label=label), Label("y", label=again)]) == 1
    assert remembered.quality(1).count == 2 * before.count
    assert sum(remembered.refused.values()) == 0


def test_the_same_outcome_again_is_no_news_and_another_one_a_correction() -> None:
    remembered = outcomes(answered("x", 1), answered("y", 1))
    remembered.label([Label("x", outcome=1.0), Label("y", outcome=2.0)])
    assert remembered.label([Label("x", outcome=1.0)]) == 0
    assert remembered.label([Label("x", outcome=5.0)]) == 1
    assert remembered.quality(1).mean == 3.5
    assert remembered.quality(1).variance == pytest.approx(4.5)
    assert not remembered.proportion
    with pytest.raises(AlreadyLabelledError, match="'x' was given an outcome, which the other cannot replace"):
        remembered.label([Label("x", label=1)])


def test_another_label_corrects() -> None:
    remembered = outcomes(*(answered(f"{at}", 1, 0) for at in range(600)), answered("other", 1, version=2))
    remembered.label([Label(f"{at}", label=[1, 1]) for at in range(600)], at=50.0)
    remembered.label([Label("other", label=1)], at=50.0)
    assert remembered.label([Label(f"{at}", label=[1, 0]) for at in range(590, 600)], at=60.0) == 10
    assert remembered.label([Label("599", label=[1, 0])]) == 0
    assert remembered.label([Label("599", label=[0, 1]), Label("0", label=[1, 1])]) == 1
    assert remembered.quality(1).count == 600
    assert remembered.quality(1).mean == pytest.approx((590 * 0.5 + 9) / 600)
    assert remembered.quality(1).variance == pytest.approx(np.var([0.5] * 590 + [1.0] * 9 + [0.0], ddof=1))
    rows = remembered.labelled._versions[1]
    assert rows.truth.ravel().tolist() == [1, 1] * 590 + [1, 0] * 9 + [0, 1]
    assert rows.prediction.ravel().tolist() == [1, 0] * 600
    assert set(rows.at.tolist()) == {50.0}, "the label came then"
    report = remembered.labelled.report(1, window_name="all time", labels=(0, 1), output="class")
    assert report.labels == 1200
    assert report.measures[0].value == pytest.approx((590 + 18) / 1200)


def test_a_number_is_corrected_too() -> None:
    remembered = outcomes(*(answered(name, 2.0) for name in "abc"), labels=None, output="number")
    remembered.label([Label(name, label=4) for name in "abc"])
    assert remembered.label([Label("b", label=2)]) == 1
    assert remembered.quality(1).mean == pytest.approx(4 / 3)
    assert remembered.labelled._versions[1].truth.tolist() == [[4.0], [2.0], [4.0]]


def test_corrections_and_what_was_not_are_apart_in_copies_and_elsewhere() -> None:
    old, new = outcomes(answered("a", 1)), outcomes(answered("b", 1))
    old.label([Label("a", label=1)])
    new.label([Label("b", label=1)])
    left = old.without_answers()
    new.join(pickle.loads(pickle.dumps(left)))
    new.prepend(pickle.loads(pickle.dumps(old.newest(0, 9))))
    assert new.label([Label("a", label=1)]) == 0
    assert new.label([Label("a", label=0)]) == 1
    truths = [[row[0] for row in one.labelled._versions[1].truth.tolist()] for one in (left, new)]
    assert truths == [[1], [0, 1]]


def test_the_trial_that_is_on_keeps_its_scores() -> None:
    remembered = outcomes(answered("before", 1, version=3))
    remembered.label([Label("before", label=1)])
    remembered.trial({3: "a", 4: "b"})
    labelled(remembered, "x", 20, version=3)
    remembered.remember([answered("more", 1, version=4)])
    before = remembered.experiment()
    given = [Label("more", label=1), Label("before", label=0), *(Label(f"x3-{at}", label=0) for at in range(8, 12))]
    with pytest.raises(AlreadyLabelledError, match=r"counts in the experiment that is on.* 4 of 6 are refused"):
        remembered.label(given)
    assert remembered.experiment() == before
    assert remembered.label(given[:2]) == 2
    assert remembered.quality(3).mean == pytest.approx(20 / 21)
    remembered.trial(None)
    assert remembered.label(given[2:]) == 4
    assert remembered.quality(3).mean == pytest.approx(16 / 21)


def test_a_correction_of_what_is_forgotten_is_refused() -> None:
    remembered = outcomes(answered("a", 1))
    remembered.label([Label("a", label=1)])
    remembered.remember([answered(f"later {number}", 1) for number in range(KEPT)])
    with pytest.raises(UnknownRequestError):
        remembered.label([Label("a", label=0)])


# ---- what was labelled ----


def test_what_was_labelled_is_kept_for_reports() -> None:
    probabilities = np.array([[0.3, 0.7], [0.8, 0.2]])
    remembered = outcomes(answered("a", 1, 0)._replace(probabilities=probabilities), answered("b", 1, version=2))
    remembered.remember([answered("c", 1)])
    remembered.label([Label("a", label=[1, 1]), Label("b", label=0)], at=50.0)
    remembered.label([Label("c", outcome=1.0)], at=60.0)
    assert remembered.labelled.versions == (1, 2)
    rows = remembered.labelled._versions[1]
    rows.settle()
    assert (rows.at.tolist(), rows.truth.tolist(), rows.prediction.tolist()) == ([50.0] * 2, [[1], [1]], [[1], [0]])
    assert rows.probabilities is not None
    assert rows.probabilities.tolist() == probabilities.tolist()
    assert remembered.labelled.waiting(2, most=9) == ["b"]


def test_numbers_are_kept_as_numbers() -> None:
    remembered = outcomes(answered("a", 2, 3), labels=None, output="number")
    remembered.label([Label("a", label=[2, 5])], at=1.0)
    report = remembered.labelled.report(1, window_name="all time", labels=None, output="number")
    assert (report.task, report.labels) == ("numbers", 2)


def test_requests_of_before_are_restored_and_labelled() -> None:
    remembered = outcomes(answered("here", 1))
    assert remembered.unknown(["old", "here", "older"]) == ["old", "older"]
    remembered.trial({1: "a", 2: "b"})
    remembered.restore([answered("old", 1), answered("here", 0)])
    assert remembered.unknown(["old", "here", "older"]) == ["older"]
    assert remembered.label([Label("old", label=1), Label("here", label=1)]) == 2
    assert remembered.quality(1).mean == 1.0
    found = remembered.experiment()
    assert found is not None
    assert found.outcomes == 0
    remembered.restore([answered("old", 1)], [Label("old", label=0)])
    assert remembered.label([Label("old", label=1)]) == 0


def test_what_was_labelled_elsewhere_is_known_and_stays() -> None:
    remembered = outcomes(answered("here", 1))
    events = [answered(name, 1) for name in ("old", "strange", "here")]
    remembered.restore(events, [Label("old", label=0), Label("strange", label="x"), Label("here", label=0)])
    assert remembered.label([Label("old", label=0), Label("strange", label=1), Label("here", label=1)]) == 2
    with pytest.raises(AlreadyLabelledError, match="'old' was labelled otherwise, and counted, before this server"):
        remembered.label([Label("old", label=1)])


def test_what_was_labelled_goes_on_elsewhere() -> None:
    old, new = outcomes(answered("a", 1)), outcomes(answered("b", 1))
    for one, name in ((old, "a"), (new, "b")):
        one.label([Label(name, label=1)])
        with pytest.raises(UnknownRequestError):
            one.label([Label("zz", label=1)])
    left = old.without_answers()
    old.remember([answered("later", 1)])
    old.label([Label("later", label=1)])
    new.join(pickle.loads(pickle.dumps(left)))
    assert new.labelled.report(1, window_name="all time", labels=(0, 1), output="class").labels == 2
    assert new.refused["unknown"] == 2
    assert old.refused["unknown"] == 1


# ---- memory ----


def test_probabilities_count_as_values_too() -> None:
    wide = np.full((1, 199_000), 1e-5)
    events = [answered(str(at), 1)._replace(probabilities=wide) for at in range(12)]
    remembered = outcomes(*events)
    with pytest.raises(UnknownRequestError):
        remembered.label([Label("0", label=1)])
    assert remembered.label([Label(str(at), label=1) for at in range(2, 12)]) == 10
    assert remembered._cells == 20  # answers and labels, to tell whether another label is the same


def test_of_very_many_probabilities_only_the_answer_is_kept() -> None:
    event = answered("a", 1)._replace(probabilities=np.full((1, 200_000), 1e-5))
    remembered = outcomes(event)
    assert remembered._cells == 1
    assert remembered.label([Label("a", label=1)]) == 1
    assert remembered.labelled.waiting(1, most=1) == ["a"]


def test_it_remembers_the_last_requests() -> None:
    remembered = outcomes(*(answered(str(number), 1) for number in range(5)))
    remembered.remember([answered(f"later {number}", 1) for number in range(KEPT - 2)])
    with pytest.raises(UnknownRequestError):
        remembered.label([Label("2", label=1)])
    assert remembered.label([Label("3", label=1)]) == 1


def test_large_answers_are_kept_for_fewer() -> None:
    large = np.zeros(150_000)
    events = [answered(f"{at}")._replace(prediction=large, rows=150_000) for at in range(14)]
    remembered = outcomes(*events, labels=None, output="number")
    with pytest.raises(UnknownRequestError):
        remembered.label([Label("0", outcome=1.0)])
    assert remembered.label([Label("1", outcome=1.0)]) == 1


def test_of_a_very_large_answer_only_the_id_is_kept() -> None:
    event = answered("a")._replace(prediction=np.zeros(900_000), rows=900_000)
    remembered = outcomes(answered("first", 1), event)
    with pytest.raises(InvalidInputError, match="was not kept"):
        remembered.label([Label("a", label=1)])
    assert remembered.label([Label("a", outcome=1.0)]) == 1
    assert remembered.label([Label("first", outcome=1.0)]) == 1


def test_answers_go_to_another_in_parts_newest_first() -> None:
    old, new = outcomes(), outcomes(answered("c", 1))
    old.trial({1: "a", 2: "b"})
    old.remember([answered("a", 1), answered("b", 1, version=2)])
    new.trial({1: "a", 2: "b"})
    new.join(old.without_answers())
    new.prepend(old.newest(0, 1))
    new.prepend(old.newest(1, 1))
    assert [request_id for request_id, _ in new.newest(0, 9)] == ["c", "b", "a"]
    new.label([Label("a", label=1), Label("b", label=0)])
    experiment = new.experiment()
    assert experiment is not None
    assert [arm.tally.count for arm in experiment.arms] == [1, 1]


def test_a_repeated_id_means_the_last_request_and_leaks_nothing() -> None:
    large = answered("same")._replace(prediction=np.zeros(900_000))
    remembered = outcomes(answered("first", 1), *[large] * 20, answered("same", 0, version=7))
    remembered.label([Label("first", label=1), Label("same", label=0)])
    assert remembered.quality(7).mean == 1.0
    assert remembered._cells == 4


def test_it_moves_between_processes() -> None:
    remembered = outcomes()
    remembered.trial({1: "a", 2: "b"})
    remembered.remember([answered("x", 1), answered("y", 1, version=2)])
    moved = pickle.loads(pickle.dumps(remembered))
    moved.label([Label("x", label=1), Label("y", label=0)])
    assert [arm.tally.mean for arm in moved.experiment().arms] == [1.0, 0.0]


# ---- trials ----


def labelled(remembered: Outcomes, prefix: str, count: int, *, version: int, right: float = 1.0) -> None:
    names = [f"{prefix}{version}-{number}" for number in range(count)]
    remembered.remember([answered(name, 1, version=version) for name in names])
    remembered.label([Label(name, label=int(at < right * count)) for at, name in enumerate(names)])


def test_a_trial_compares_its_arms() -> None:
    remembered = outcomes()
    assert remembered.experiment() is None
    remembered.trial({3: "champion", 4: "challenger"}, baseline=3)
    labelled(remembered, "x", 300, version=3, right=0.6)
    labelled(remembered, "x", 300, version=4, right=0.9)
    found = remembered.experiment()
    assert found is not None
    assert [(arm.name, arm.version, arm.tally.count) for arm in found.arms] == [
        ("champion", 3, 300),
        ("challenger", 4, 300),
    ]
    assert (found.verdict.kind, found.verdict.winner, found.metric) == ("better", "challenger", "accuracy")


def test_the_baseline_need_not_be_the_first() -> None:
    remembered = outcomes()
    remembered.trial({3: "a", 4: "b"}, baseline=4)
    found = remembered.experiment()
    assert found is not None
    assert found.baseline.name == "b"


def test_other_weights_go_on_with_it_and_other_versions_begin_anew() -> None:
    remembered = outcomes()
    remembered.trial({3: "a", 4: "b"})
    labelled(remembered, "x", 50, version=3)
    remembered.trial({4: "new name", 3: "a"}, baseline=3)
    found = remembered.experiment()
    assert found is not None
    assert [(arm.name, arm.tally.count) for arm in found.arms] == [("a", 50), ("new name", 0)]
    remembered.trial({3: "a", 5: "c"})
    found = remembered.experiment()
    assert found is not None
    assert found.outcomes == 0
    assert remembered.quality(3).count == 50


def test_requests_from_before_the_trial_are_no_part_of_it() -> None:
    remembered = outcomes(answered("before", 1, version=3))
    remembered.trial({3: "a", 4: "b"})
    remembered.label([Label("before", label=1)])
    found = remembered.experiment()
    assert found is not None
    assert (found.outcomes, remembered.quality(3).count) == (0, 1)


def test_an_ended_trial_is_gone() -> None:
    remembered = outcomes()
    remembered.trial({3: "a", 4: "b"})
    labelled(remembered, "x", 5, version=3)
    remembered.trial(None)
    assert remembered.experiment() is None
    remembered.trial({3: "only"})
    assert remembered.experiment() is None


@pytest.mark.parametrize(("outcome", "proportion"), [(1.0, True), (0.3, False), (7.0, False)])
def test_outcomes_of_nought_and_one_are_shares(outcome: float, proportion: bool) -> None:
    remembered = outcomes()
    remembered.trial({3: "a", 4: "b"})
    remembered.remember([answered("x", 1, version=3)])
    remembered.label([Label("x", outcome=outcome)])
    found = remembered.experiment()
    assert found is not None
    assert (found.metric, found.proportion) == ("outcome", proportion)


def test_the_chart_has_a_few_looks_however_long_the_trial() -> None:
    remembered = outcomes()
    remembered.trial({3: "a", 4: "b"})
    for part in range(10):
        for version in (3, 4):
            labelled(remembered, f"{part}-", 1000, version=version, right=0.7)
    found = remembered.experiment()
    assert found is not None
    assert 100 < len(found.history) < 200
    band = found.bands()[1]
    assert band.outcomes[-1] == 20_000
    assert list(band.outcomes) == sorted(set(band.outcomes))
