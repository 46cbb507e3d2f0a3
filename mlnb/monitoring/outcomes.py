"""What became of requests: labels and outcomes that come back by request id, scored and counted by version."""

from __future__ import annotations

from collections import Counter, OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlnb.errors import AlreadyLabelledError, InvalidInputError, MlnbError, UnknownRequestError
from mlnb.monitoring.experiment import Experiment, Goal, evaluate
from mlnb.monitoring.quality import Labelled
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
_NAMED = 3  # requests that an error names
_LISTED = 100  # those that it lists for programs
_ELSEWHERE = -1  # the trial of what another server counted
_Kept = tuple[int, "np.ndarray[Any, Any] | None", int, "np.ndarray[Any, Any] | None"]  # what _Answer names
_ACCURACY, _ERROR, _OUTCOME = "accuracy", "mean absolute error", "outcome"
_REASONS: dict[type[MlnbError], str] = {
    UnknownRequestError: "unknown",
    AlreadyLabelledError: "twice",
    InvalidInputError: "wrong type",
}


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

    ``trial`` is the number of the trial in which it was answered, 0 if in none that is known.
    """

    version: int
    prediction: np.ndarray[Any, Any] | None
    trial: int
    probabilities: np.ndarray[Any, Any] | None


class _Labelled(NamedTuple):
    """One request whose label came."""

    version: int
    prediction: np.ndarray[Any, Any] | None
    trial: int
    metric: str
    score: float | None  # None: the answer was no number
    truth: Any  # for each row; None of an outcome


class _Scored(NamedTuple):
    request_id: str
    answer: _Answer
    metric: str
    score: float | None
    truth: Any = None
    before: _Labelled | None = None  # the label that it has

    def says(self, other: _Labelled | _Scored) -> bool:
        """Return whether both say the same of a request."""
        if other.metric != self.metric:
            return False
        if self.truth is None:
            return other.score == self.score
        return np.array_equal(other.truth, self.truth) if self.metric == _ERROR else bool(other.truth == self.truth)

    def noted(self, trial: int) -> _Labelled:
        """Return what is remembered of it."""
        return _Labelled(self.answer.version, self.answer.prediction, trial, self.metric, self.score, self.truth)


class Outcomes:
    """Remembers answers until their labels come, and tallies the scores; used on one thread only.

    A request's score is the share of its rows that are right (classes), its mean absolute error (numbers), or the
    outcome itself. The same label again changes nothing. Another one corrects it, but for a request of the trial that
    is on: its confidence sequences hold for scores that stay as they came, however often one looks.

    Parameters
    ----------
    labels : tuple or None
        The classes that the model knows; None if they are not known, or it has none.
    output : {'class', 'number', 'cluster', 'outlier', 'any'}
        What the model answers with.
    goal : {'higher', 'lower'}
        Which outcome is better.

    Attributes
    ----------
    labelled : Labelled
        The newest rows with a label, for reports on quality.
    noted : Counter of int to int
        Requests of each version whose label was noted.
    refused : dict of str to int
        Labels that were refused, each for what is wrong with itself: "unknown" id, labelled "twice" and differently, or
        "wrong type".

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
        self._outcome_goal = goal
        self.expect(labels, output)
        self._waiting: OrderedDict[str, _Kept | _Labelled] = OrderedDict()
        self._cells = 0
        self._metric = _OUTCOME if output == "any" else self._metric_of_labels("")
        self._by_version: dict[int, Tally] = {}
        self.labelled = Labelled()
        self.noted: Counter[int] = Counter()
        self.refused = dict.fromkeys(_REASONS.values(), 0)
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
        self._keep(events, self._trial)

    def unknown(self, request_ids: Sequence[str]) -> list[str]:
        """Return those of some ids that are not remembered, so that they may be looked up elsewhere and restored."""
        return [one for one in request_ids if one not in self._waiting]

    def restore(self, events: Sequence[PredictionEvent], given: Sequence[Label] = ()) -> None:
        """Remember requests of before that were looked up elsewhere; they are part of no trial.

        Those that are remembered anyway stay as they are, so that none is labelled twice.

        Parameters
        ----------
        events : sequence of PredictionEvent
        given : sequence of Label
            What became of some of them, which was counted before.
        """
        new = {event.request_id: event for event in events if event.request_id not in self._waiting}
        self._keep(list(new.values()), 0)
        for label in given:
            if label.request_id in new and label.request_id in self._waiting:
                with suppress(MlnbError):  # of classes that are not known here
                    self._put(label.request_id, self._scored(label).noted(_ELSEWHERE))

    def expect(self, labels: tuple[Any, ...] | None, output: str) -> None:
        """Take labels for these answers from here on; see the parameters of the class."""
        self._labels, self._output = labels, output
        self._known = frozenset(map(_plain, labels or ()))

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

    def label(self, given: Sequence[Label], *, at: float = 0.0) -> int:
        """Note what became of requests; all of them or, with an error, none.

        A label for an answer without a finite number is noted, and has no score. The same label again is no news;
        another one takes its place, where that is honest.

        Parameters
        ----------
        given : sequence of Label
        at : float
            When they came, seconds since the epoch.

        Returns
        -------
        int
            How many were noted: new ones and corrections.

        Raises
        ------
        UnknownRequestError
            If an id is not remembered.
        AlreadyLabelledError
            If a request has another label that cannot be changed: it counts in the trial that is on, was counted by
            another server, or is an outcome; or if there are two labels of it.
        InvalidInputError
            If a label is none the model knows, does not fit the rows, or is no finite number; if both or neither of
            label and outcome are given; or if outcomes are mixed with labels in one trial.
        """
        scored = self._checked(given)
        for one in scored:
            if one.before is None:
                self._note(one, at)
        self._correct([one for one in scored if one.before is not None])
        self._make_room()
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
        own = {"labelled": self.labelled.copy(), "refused": dict(self.refused), "noted": self.noted.copy()}
        vars(copy).update(vars(self), _waiting=OrderedDict(), _cells=0, **own)
        return copy

    def join(self, earlier: Outcomes) -> None:
        """Go on from the scores and the trial of another one; answers that wait for labels stay as they are."""
        waiting, cells, arms, baseline, trial = self._waiting, self._cells, self._arms, self._baseline, self._trial
        self.labelled.join(earlier.labelled)
        refused = {reason: count + earlier.refused[reason] for reason, count in self.refused.items()}
        own = {"labelled": self.labelled, "refused": refused, "noted": self.noted + earlier.noted}
        vars(self).update(vars(earlier), _waiting=waiting, _cells=cells, **own)
        if set(arms) == set(self._arms):
            self._arms, self._baseline = arms, baseline
        else:
            self.trial(arms, baseline=baseline)
        for request_id, kept in waiting.items():
            if kept[2] == trial:
                waiting[request_id] = (
                    kept._replace(trial=self._trial)
                    if isinstance(kept, _Labelled)
                    else (kept[0], kept[1], self._trial, kept[3])
                )

    def newest(self, at: int, count: int) -> list[tuple[str, _Kept | _Labelled]]:
        """Return some of the answers that wait for labels, by id, from the ``at``-th newest on, newest first."""
        return list(islice(reversed(self._waiting.items()), at, at + count))

    def prepend(self, answers: Sequence[tuple[str, _Kept | _Labelled]]) -> None:
        """Remember answers of before, newest first, as far as there is room."""
        for request_id, kept in answers:
            size = _size(kept)
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

    def _keep(self, events: Sequence[PredictionEvent], trial: int) -> None:
        waiting = self._waiting
        for event in events:
            if event.error is None:
                request_id, prediction, probabilities = event.request_id, event.prediction, event.probabilities
                if request_id in waiting:  # a client that repeats its ids means the last one
                    self._forget(waiting.pop(request_id))
                if prediction is None or prediction.size > _LONGEST:
                    prediction = probabilities = None
                elif probabilities is not None and prediction.size + probabilities.size > _LONGEST:
                    probabilities = None
                if prediction is not None:
                    self._cells += prediction.size if probabilities is None else prediction.size + probabilities.size
                waiting[request_id] = (event.version, prediction, trial, probabilities)  # plain: a tenth of the time
        self._make_room()

    def _make_room(self) -> None:
        while len(self._waiting) > KEPT or self._cells > _CELLS:
            self._forget(self._waiting.popitem(last=False)[1])

    def _put(self, request_id: str, labelled: _Labelled) -> None:
        """Remember a label in the place of what is remembered of its request."""
        if request_id in self._waiting:
            self._forget(self._waiting[request_id])
        self._waiting[request_id] = labelled
        self._cells += _size(labelled)

    def _forget(self, kept: _Kept | _Labelled) -> None:
        self._cells -= _size(kept)

    # ---- noting ----

    def _note(self, one: _Scored, at: float) -> None:
        version, prediction, _, probabilities = one.answer
        self.noted[version] += 1
        if one.truth is not None and prediction is not None:
            self.labelled.note(
                version, at=at, truth=one.truth, prediction=prediction, probabilities=probabilities,
                request_id=one.request_id,
            )  # fmt: skip
        self._put(one.request_id, one.noted(one.answer.trial))
        if one.score is not None:
            self._tally(one, one.score)

    def _correct(self, corrections: Sequence[_Scored]) -> None:
        """Put labels in the place of others; none of them counts in the trial that is on."""
        truths: dict[int, dict[str, Any]] = {}
        for one in corrections:
            self._put(one.request_id, one.noted(one.answer.trial))
            if one.truth is not None:
                truths.setdefault(one.answer.version, {})[one.request_id] = one.truth
            self._retally(one)
        for version, by_id in truths.items():
            self.labelled.correct(version, by_id)

    def _retally(self, one: _Scored) -> None:
        version, before = one.answer.version, one.before
        if before is not None and before.score is not None and one.score is not None and one.metric == self._metric:
            self._binary &= one.score in (0.0, 1.0)
            self._by_version[version] = _replaced(self.quality(version), before.score, one.score)

    def _tally(self, one: _Scored, score: float) -> None:
        if one.metric != self._metric:
            self._by_version.clear()
            self._metric, self._binary = one.metric, True
        version, trial = one.answer.version, one.answer.trial
        self._binary &= score in (0.0, 1.0)
        self._by_version[version] = self.quality(version).add(score)
        if trial == self._trial and version in self._tallies:
            self._tallies[version] = self._tallies[version].add(score)
            self._look()

    def _look(self) -> None:
        count = self._count()
        if count >= self._next_look:
            self._looks.append(dict(self._tallies))
            self._next_look = ceil(count * _STEP)

    def _count(self) -> int:
        return sum(one.count for one in self._tallies.values())

    # ---- checking ----

    def _checked(self, given: Sequence[Label]) -> list[_Scored]:
        """Score what is new, or count those that are refused and raise the first refusal."""
        told: dict[str, _Scored] = {}
        news: dict[str, _Scored] = {}
        refusals: list[tuple[str, MlnbError]] = []
        first = ""
        for label in given:
            try:
                one = self._scored(label)
                self._check_once(one, told)
                told[one.request_id] = one
                if one.before is not None and one.says(one.before):
                    continue
                self._check_correction(one)
                first = first or one.metric
                self._check_metric(first, one)
                news[one.request_id] = one
            except MlnbError as error:
                refusals.append((label.request_id, error))
                self.refused[_REASONS[type(error)]] += 1
        if refusals:
            raise _first_of(refusals, len(given))
        return list(news.values())

    def _check_once(self, one: _Scored, told: Mapping[str, _Scored]) -> None:
        if one.request_id in told and not one.says(told[one.request_id]):
            raise AlreadyLabelledError(
                f"Request {one.request_id!r} is there twice, with two labels; give one.", request_id=one.request_id
            )

    def _check_correction(self, one: _Scored) -> None:
        before = one.before
        if before is None:
            return
        words = ""
        if before.metric != one.metric:
            words = f"was given {'an outcome' if before.truth is None else 'a label'}, which the other cannot replace"
        elif before.trial == _ELSEWHERE:
            words = "was labelled otherwise, and counted, before this server began"
        elif before.trial == self._trial and before.version in self._tallies:
            words = (
                "was labelled otherwise and counts in the experiment that is on, whose intervals hold only for labels "
                "that stay; correct it when the experiment is over"
            )
        if words:
            raise AlreadyLabelledError(f"Request {one.request_id!r} {words}.", request_id=one.request_id)

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
        answer, before = self._answer(one.request_id)
        if one.outcome is not None:
            return _Scored(one.request_id, answer, _OUTCOME, _number(one, one.outcome), None, before)
        if answer.prediction is None:
            raise InvalidInputError(
                f"The answer to request {one.request_id!r} was not kept; give an outcome instead of a label.",
                request_id=one.request_id,
            )
        if self._metric_of_labels(answer.prediction.dtype.kind) == _ERROR:
            numbers = _numbers(one, answer.prediction)
            return _Scored(one.request_id, answer, _ERROR, _error(one, numbers, answer.prediction), numbers, before)
        truth = _rows(one, answer.prediction)
        self._check_classes(one, truth, answer.prediction)
        return _Scored(one.request_id, answer, _ACCURACY, _accuracy(truth, answer.prediction), truth, before)

    def _answer(self, request_id: str) -> tuple[_Answer, _Labelled | None]:
        """Return the answer to a request, and what became of it where that is known."""
        try:
            kept = self._waiting[request_id]
        except (KeyError, TypeError):
            raise UnknownRequestError(
                f"There is no answered request {request_id!r} here; ids of the last {KEPT:,} requests are kept.",
                request_id=str(request_id),
            ) from None
        if isinstance(kept, _Labelled):
            return _Answer(kept.version, kept.prediction, kept.trial, None), kept
        return _Answer(*kept), None

    def _metric_of_labels(self, dtype: str) -> str:
        numbers = self._output == "number" or (self._output == "any" and dtype == "f")
        return _ERROR if numbers else _ACCURACY

    def _check_classes(self, one: Label, given: list[Any], prediction: np.ndarray[Any, Any]) -> None:
        if self._labels is not None and prediction.ndim == 1:
            self._check_known(one, given)
            return
        truth = _array(given)
        if truth.shape != prediction.shape or truth.dtype.kind not in "biufSU" or np.any(truth != truth):  # noqa: PLR0124 - NaN
            raise _unfitting(one, prediction, "labels")

    def _check_known(self, one: Label, given: list[Any]) -> None:
        for truth in given:
            if not _among(truth, self._known):
                known = list(map(_plain, self._labels or ()))
                shown = ", ".join(map(repr, known[:_SHOWN])) + ", …" * (len(known) > _SHOWN)
                raise InvalidInputError(
                    f"Request {one.request_id!r}: the model has no label {truth!r}; there are: {shown}.",
                    request_id=one.request_id,
                )


def _among(value: Any, known: frozenset[Any]) -> bool:
    try:
        return value in known
    except TypeError:  # a list or a dict
        return False


def _rows(one: Label, prediction: np.ndarray[Any, Any]) -> list[Any]:
    """Return a label for each row of the answer."""
    plain = _plain(one.label)
    given = list(plain) if isinstance(plain, (list, tuple)) else [plain]
    if prediction.ndim > 1 and len(prediction) == 1 and _array(given).shape == prediction.shape[1:]:
        given = [given]
    if len(given) != len(prediction):
        raise InvalidInputError(
            f"Request {one.request_id!r} needs a label for each row: it had {_counted(len(prediction), 'row')} and got "
            f"{_counted(len(given), 'label')}.",
            request_id=one.request_id,
        )
    return [_plain(truth) for truth in given]


def _array(given: list[Any]) -> np.ndarray[Any, Any]:
    """Return an array; an empty one of lists of different lengths."""
    try:
        return np.asarray(given)
    except ValueError:
        return np.empty(0)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _size(kept: _Kept | _Labelled) -> int:
    """Return how many values are kept of an answer, and of its label."""
    if kept[1] is None:
        return 0
    if isinstance(kept, _Labelled):
        return kept[1].size if kept.truth is None else 2 * kept[1].size
    return kept[1].size if kept[3] is None else kept[1].size + kept[3].size


def _replaced(tally: Tally, before: float, after: float) -> Tally:
    """Return a tally with one of its numbers changed."""
    if not tally.count:
        return tally
    mean = tally.mean + (after - before) / tally.count
    m2 = tally.m2 + (after - before) * (after - mean + before - tally.mean)
    return Tally(tally.count, mean, max(m2, 0.0))


def _first_of(refusals: Sequence[tuple[str, MlnbError]], given: int) -> MlnbError:
    """Return the first of several refusals, with how many there are and of what."""
    error = refusals[0][1]
    if given == 1:
        return error
    ids = [str(request_id) for request_id, _ in refusals]
    named = ", ".join(map(_short, ids[:_NAMED])) + ", …" * (len(ids) > _NAMED)
    words = f"{error} {len(ids):,} of {given:,} are refused ({named}), so none was noted; leave them out or mend them."
    return type(error)(words, **error.details, refused=ids[:_LISTED])


def _accuracy(truth: list[Any], prediction: np.ndarray[Any, Any]) -> float:
    right = [bool(answer == true) for answer, true in zip(prediction.tolist(), truth, strict=True)]
    return sum(right) / len(right)


def _numbers(one: Label, prediction: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the true numbers, in the shape of the answer."""
    truth = _array(_rows(one, prediction))
    if truth.dtype.kind not in "iuf" or truth.shape != prediction.shape or not np.all(np.abs(truth) <= _LARGEST):
        raise _unfitting(one, prediction, "finite numbers")
    return truth.astype(float)


def _error(one: Label, truth: np.ndarray[Any, Any], prediction: np.ndarray[Any, Any]) -> float | None:
    """Return the mean absolute error of what is a finite number in the answer, None if nothing is."""
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.abs(truth - prediction.astype(float))
        finite = np.isfinite(errors)
        return _number(one, float(errors.mean(where=finite))) if finite.any() else None


def _unfitting(one: Label, prediction: np.ndarray[Any, Any], what: str) -> InvalidInputError:
    return InvalidInputError(
        f"Request {one.request_id!r}: the label {_short(one.label)} does not fit an answer of the shape "
        f"{prediction.shape}; give {what} of that shape.",
        request_id=one.request_id,
    )


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
