"""What became of requests: labels and outcomes that come back by request id, scored and counted by version."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlnb.errors import AlreadyLabelledError, InvalidInputError, UnknownRequestError
from mlnb.monitoring.experiment import Experiment, Goal, evaluate
from mlnb.monitoring.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.events import PredictionEvent

__all__ = ["KEPT", "Label", "Outcomes"]

KEPT = 100_000  # requests whose ids are known
_CELLS = 2_000_000  # values of their answers
_LONGEST = _CELLS // 10  # values of one answer; of a longer one only the id is kept
_SHOWN = 10  # labels that an error names
_STEP = 1.05  # from one look for the chart to the next: 400 of them for a billion outcomes
_LARGEST = 1e100  # whose square is a number
_Kept = tuple[int, "np.ndarray[Any, Any] | None", int]  # what _Answer names
_ACCURACY, _ERROR, _OUTCOME = "accuracy", "mean absolute error", "outcome"


@dataclass(frozen=True, slots=True)
class Label:
    """What became of one request: the truth its answer is compared with, or how good the answer was.

    Attributes
    ----------
    request_id : str
    label : object
        The true class or number, or one for each row of the request in a list; None if an outcome is given.
    outcome : float or None
        Such as 1 for a click and 0 for none, or a revenue.
    """

    request_id: str
    label: Any = None
    outcome: float | None = None


class _Answer(NamedTuple):
    """One answered request that waits for its label.

    ``trial`` is the number of the trial in which it was answered.
    """

    version: int
    prediction: np.ndarray[Any, Any] | None
    trial: int


class _Scored(NamedTuple):
    request_id: str
    answer: _Answer
    metric: str
    score: float


class Outcomes:
    """Remembers answers until their labels come, and tallies the scores; used on one thread only.

    A request's score is the share of its rows that are right (classes), its mean absolute error (numbers), or the
    outcome itself.

    Parameters
    ----------
    labels : tuple or None
        The classes that the model knows; None if they are not known, or it has none.
    output : {'class', 'number', 'cluster', 'outlier', 'any'}
        What the model answers with.
    goal : {'higher', 'lower'}
        Which outcome is better.

    Examples
    --------
    >>> from mlnb.events import PredictionEvent
    >>> event = PredictionEvent("iris", 3, "a", 0.0, 0.001, 1, 200, prediction=np.array(["setosa"]))
    >>> outcomes = Outcomes(("setosa", "virginica"), "class")
    >>> outcomes.remember([event])
    >>> outcomes.label([Label("a", label="setosa")])
    1
    >>> outcomes.quality(3).mean
    1.0
    """

    def __init__(self, labels: tuple[Any, ...] | None, output: str, *, goal: Goal = "higher") -> None:
        self._labels, self._output, self._outcome_goal = labels, output, goal
        self._waiting: OrderedDict[str, _Kept | None] = OrderedDict()  # None: labelled
        self._cells = 0
        self._metric = _OUTCOME if output == "any" else self._metric_of_labels("")
        self._by_version: dict[int, Tally] = {}
        self._binary = True  # all of their scores are 0 or 1
        self._trial = 0
        self._arms: dict[int, str] = {}
        self._baseline = 0
        self._begin({})

    @property
    def metric(self) -> str:
        """What a score is."""
        return self._metric

    @property
    def goal(self) -> Goal:
        """Which score is better."""
        return self._outcome_goal if self._metric == _OUTCOME else "lower" if self._metric == _ERROR else "higher"

    @property
    def proportion(self) -> bool:
        """Whether scores are shares."""
        return self._metric == _ACCURACY or (self._metric == _OUTCOME and self._binary)

    def remember(self, events: Sequence[PredictionEvent]) -> None:
        """Keep the answers of one loop turn, and forget the oldest."""
        waiting, trial = self._waiting, self._trial
        for event in events:
            if event.error is None:
                request_id, prediction = event.request_id, event.prediction
                if request_id in waiting:  # a client that repeats its ids means the last one
                    self._forget(waiting.pop(request_id))
                if prediction is not None:
                    if prediction.size > _LONGEST:
                        prediction = None
                    else:
                        self._cells += prediction.size
                waiting[request_id] = (event.version, prediction, trial)  # plain: made in a tenth of the time
        while len(waiting) > KEPT or self._cells > _CELLS:
            self._forget(waiting.popitem(last=False)[1])

    def expect(self, labels: tuple[Any, ...] | None, output: str) -> None:
        """Take labels for these answers from here on; see the parameters of the class."""
        self._labels, self._output = labels, output

    def trial(self, arms: Mapping[int, str] | None, *, baseline: int | None = None) -> None:
        """Begin a trial, go on with it if it has the same versions, or end it.

        Only requests that are answered from here on count.

        Parameters
        ----------
        arms : mapping of int to str, or None
            Name of each arm by its version; None or empty ends the trial.
        baseline : int, optional
            The version the others are compared with; the first one unless given.
        """
        if set(arms or {}) != set(self._arms):
            self._begin(arms or {})
        self._arms = dict(arms or {})
        self._baseline = next(iter(self._arms), 0) if baseline is None else baseline

    def label(self, given: Sequence[Label]) -> int:
        """Note what became of requests; all of them or, with an error, none.

        Returns
        -------
        int
            How many were noted.

        Raises
        ------
        UnknownRequestError
            If an id is not remembered.
        AlreadyLabelledError
            If a request was labelled before, or is there twice.
        InvalidInputError
            If a label is none the model knows, does not fit the rows, or is no finite number; if both or neither of
            label and outcome are given; or if outcomes are mixed with labels in one trial.
        """
        scored = [self._scored(one) for one in given]
        self._check_once(given)
        for one in scored:
            self._check_metric(scored[0].metric, one)
        for one in scored:
            self._note(one)
        return len(scored)

    def quality(self, version: int) -> Tally:
        """Return the tally of the scores of a version, in and out of trials."""
        return self._by_version.get(version, Tally())

    def scores(self, version: int) -> Tally:
        """Return the tally of the scores of a version in the trial that is on."""
        return self._tallies.get(version, Tally())

    def without_answers(self) -> Outcomes:
        """Return a copy that has the scores, and no answers that wait for labels."""
        copy = Outcomes(self._labels, self._output, goal=self._outcome_goal)
        vars(copy).update(vars(self), _waiting=OrderedDict(), _cells=0)
        return copy

    def join(self, earlier: Outcomes) -> None:
        """Go on from the scores and the trial of another one; answers that wait for labels stay as they are."""
        waiting, cells, arms, baseline, trial = self._waiting, self._cells, self._arms, self._baseline, self._trial
        vars(self).update(vars(earlier), _waiting=waiting, _cells=cells)
        if set(arms) == set(self._arms):
            self._arms, self._baseline = arms, baseline
        else:
            self.trial(arms, baseline=baseline)
        for request_id, kept in waiting.items():
            if kept is not None and kept[2] == trial:
                waiting[request_id] = (kept[0], kept[1], self._trial)

    def newest(self, at: int, count: int) -> list[tuple[str, _Kept | None]]:
        """Return some of the answers that wait for labels, by id, from the ``at``-th newest on, newest first."""
        return list(islice(reversed(self._waiting.items()), at, at + count))

    def prepend(self, answers: Sequence[tuple[str, _Kept | None]]) -> None:
        """Remember answers of before, newest first, as far as there is room."""
        for request_id, kept in answers:
            size = 0 if kept is None or kept[1] is None else kept[1].size
            if len(self._waiting) >= KEPT or self._cells + size > _CELLS:
                return
            self._waiting[request_id] = kept
            self._waiting.move_to_end(request_id, last=False)
            self._cells += size

    def experiment(self) -> Experiment | None:
        """Return the trial as it stands; None if there is none, or if it has only one arm."""
        if len(self._arms) < 2:  # noqa: PLR2004 - nothing to compare with
            return None
        return evaluate(
            self._named(self._tallies),
            versions={name: version for version, name in self._arms.items()},
            baseline=self._arms[self._baseline], metric=self.metric, goal=self.goal, proportion=self.proportion,
            history=[self._named(look) for look in self._looks],
        )  # fmt: skip

    def _begin(self, arms: Mapping[int, str]) -> None:
        self._trial += 1
        self._tallies: dict[int, Tally] = dict.fromkeys(arms, Tally())
        self._looks: list[dict[int, Tally]] = []
        self._next_look = 1

    def _named(self, tallies: Mapping[int, Tally]) -> dict[str, Tally]:
        return {name: tallies[version] for version, name in self._arms.items()}

    def _forget(self, kept: _Kept | None) -> None:
        if kept is not None and kept[1] is not None:
            self._cells -= kept[1].size

    # ---- noting ----

    def _note(self, one: _Scored) -> None:
        if one.metric != self._metric:
            self._by_version.clear()
            self._metric, self._binary = one.metric, True
        version, _, trial = one.answer
        self._binary &= one.score in (0.0, 1.0)
        self._by_version[version] = self.quality(version).add(one.score)
        self._forget(one.answer)
        self._waiting[one.request_id] = None
        if trial == self._trial and version in self._tallies:
            self._tallies[version] = self._tallies[version].add(one.score)
            self._look()

    def _look(self) -> None:
        count = self._count()
        if count >= self._next_look:
            self._looks.append(dict(self._tallies))
            self._next_look = ceil(count * _STEP)

    def _count(self) -> int:
        return sum(one.count for one in self._tallies.values())

    # ---- checking ----

    def _check_once(self, given: Sequence[Label]) -> None:
        seen: set[str] = set()
        for one in given:
            if one.request_id in seen:
                raise AlreadyLabelledError(
                    f"Request {one.request_id!r} is there twice; give each once. Nothing was noted.",
                    request_id=one.request_id,
                )
            seen.add(one.request_id)

    def _check_metric(self, first: str, one: _Scored) -> None:
        running = self._metric if self._count() else first
        if one.metric != first or one.metric != running:
            raise InvalidInputError(
                f"Labels and outcomes cannot be mixed: request {one.request_id!r} would be scored by {one.metric}, "
                f"the others by {first if one.metric != first else running}. Begin a new trial to change.",
                request_id=one.request_id,
            )

    def _scored(self, one: Label) -> _Scored:
        if (one.label is None) == (one.outcome is None):
            raise InvalidInputError(
                f"Request {one.request_id!r} needs a label or an outcome, "
                f"{'and has neither' if one.label is None else 'not both'}.",
                request_id=one.request_id,
            )
        answer = self._answer(one.request_id)
        if one.outcome is not None:
            return _Scored(one.request_id, answer, _OUTCOME, _number(one, one.outcome))
        if answer.prediction is None:
            raise InvalidInputError(
                f"The answer to request {one.request_id!r} was not kept; give an outcome instead of a label.",
                request_id=one.request_id,
            )
        metric = self._metric_of_labels(answer.prediction.dtype.kind)
        score = _error(one, answer.prediction) if metric == _ERROR else self._accuracy(one, answer.prediction)
        return _Scored(one.request_id, answer, metric, score)

    def _answer(self, request_id: str) -> _Answer:
        try:
            kept = self._waiting[request_id]
        except (KeyError, TypeError):
            raise UnknownRequestError(
                f"There is no answered request {request_id!r} here; ids of the last {KEPT:,} requests are kept.",
                request_id=str(request_id),
            ) from None
        if kept is None:
            raise AlreadyLabelledError(f"Request {request_id!r} was labelled before.", request_id=request_id)
        return _Answer(*kept)

    def _metric_of_labels(self, dtype: str) -> str:
        numbers = self._output == "number" or (self._output == "any" and dtype == "f")
        return _ERROR if numbers else _ACCURACY

    def _accuracy(self, one: Label, prediction: np.ndarray[Any, Any]) -> float:
        given = _rows(one, prediction)
        if self._labels is not None and prediction.ndim == 1:
            self._check_known(one, given)
        right = [bool(answer == truth) for answer, truth in zip(prediction.tolist(), given, strict=True)]
        return sum(right) / len(right)

    def _check_known(self, one: Label, given: list[Any]) -> None:
        known = [_plain(label) for label in self._labels or ()]
        for truth in given:
            if truth not in known:
                shown = ", ".join(map(repr, known[:_SHOWN])) + ", …" * (len(known) > _SHOWN)
                raise InvalidInputError(
                    f"Request {one.request_id!r}: the model has no label {truth!r}; there are: {shown}.",
                    request_id=one.request_id,
                )


def _rows(one: Label, prediction: np.ndarray[Any, Any]) -> list[Any]:
    """Return a label for each row of the answer."""
    plain = _plain(one.label)
    given = list(plain) if isinstance(plain, (list, tuple)) else [plain]
    if prediction.ndim > 1 and len(prediction) == 1 and np.shape(given) == prediction.shape[1:]:
        given = [given]
    if len(given) != len(prediction):
        raise InvalidInputError(
            f"Request {one.request_id!r} needs a label for each row: it had {_counted(len(prediction), 'row')} and got "
            f"{_counted(len(given), 'label')}.",
            request_id=one.request_id,
        )
    return [_plain(truth) for truth in given]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _error(one: Label, prediction: np.ndarray[Any, Any]) -> float:
    try:
        truth = np.asarray(_rows(one, prediction))
    except ValueError:
        truth = np.empty(0)
    if truth.dtype.kind not in "iuf" or truth.shape != prediction.shape:
        raise InvalidInputError(
            f"Request {one.request_id!r}: the label {_short(one.label)} does not fit an answer of the shape "
            f"{prediction.shape}; give numbers of that shape.",
            request_id=one.request_id,
        )
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(truth - prediction.astype(float)).mean()
    return _number(one, float(error))


def _number(one: Label, value: Any) -> float:
    plain = _plain(value)
    if not isinstance(plain, (bool, int, float)) or not abs(plain) <= _LARGEST:
        what = "outcome" if one.label is None else "error of the answer"
        raise InvalidInputError(
            f"Request {one.request_id!r}: the {what} is {_short(plain)}, which is no finite number.",
            request_id=one.request_id,
        )
    return float(plain)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"  # noqa: PLR2004 - one line
