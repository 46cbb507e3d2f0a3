"""How often classes are right: accuracy, precision, recall, F1 and confusion, as scikit-learn counts them."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.monitoring.quality.findings import (
    LEAST,
    LEAST_OF_A_CLASS,
    Findings,
    counted,
    measured,
    too_few,
    unsaid,
)
from mlnb.monitoring.quality.intervals import f1_interval, on_logit_scale, wilson
from mlnb.monitoring.quality.probabilities import PROBABILITIES, judge_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.monitoring.quality.report import Measure

    Array = np.ndarray[Any, Any]

__all__ = ["CLASSES", "Coded", "judge_classes"]

_AVERAGED = ("precision", "recall", "F1")
CLASSES = ("accuracy", *_AVERAGED, *PROBABILITIES)
_TWO = 2
_CELLS = 30  # classes of a confusion matrix; the others are one
_MISSING = -1  # the code of no answer


@dataclass(frozen=True, slots=True)
class Coded:
    """Classes as numbers.

    Attributes
    ----------
    names : tuple
        The classes; those the model knows first, in its order.
    known : int
        How many of them the model knows; 0 if it does not say.
    truth, answer : ndarray of int, of shape (n, outputs)
        Places in ``names``; -1 where there is no answer.
    """

    names: tuple[Any, ...]
    known: int
    truth: Array
    answer: Array

    @classmethod
    def of(cls, truth: Array, prediction: Array, labels: Sequence[Any] | None) -> Coded:
        """Give the classes in objects of shape (n, outputs) their numbers."""
        plain = [column.ravel().tolist() for column in (truth, prediction)]
        known = tuple(labels or ())
        met = set().union(*plain).difference(known)
        missing = {one for one in met if one is None or one != one}  # noqa: PLR0124 - NaN
        names = (*known, *_ordered(met - missing))
        places = dict.fromkeys(missing, _MISSING) | {name: at for at, name in enumerate(names)}
        codes = [np.fromiter(map(places.__getitem__, one), np.int64, len(one)).reshape(truth.shape) for one in plain]
        return cls(names, len(known), *codes)

    @property
    def binary(self) -> bool:
        """Whether there are two classes, and so one of them is the positive one."""
        return self.truth.shape[1] == 1 and (self.known or len(self.names)) == _TWO


def judge_classes(
    truth: Array, prediction: Array, probabilities: Array | None, labels: Sequence[Any] | None
) -> Findings:
    """Measure answers that are classes; of several outputs the average.

    Precision, recall and F1 are of the last of two classes, and else the macro average over the classes that were seen,
    as scikit-learn has them. The intervals: Wilson's for accuracy, and for precision and recall of one class; Wilson's
    turned back for its F1; and the delta method on the log-odds for averages (Takahashi et al. 2022, "Confidence
    interval for micro-averaged F1 and macro-averaged F1 scores").

    Parameters
    ----------
    truth, prediction : ndarray of object, of shape (n, outputs)
        An answer that is None or NaN is wrong.
    probabilities : ndarray of shape (m, classes), or None
        Of the last m rows; NaN where they are not known.
    labels : sequence or None
        The model's classes, in the order of the probabilities.
    """
    coded = Coded.of(truth, prediction, labels)
    rows, outputs = coded.truth.shape
    if rows < LEAST:
        return Findings(measures=tuple(too_few(name, rows) for name in CLASSES), notes=tuple(_left_out(coded)))
    hits = coded.truth == coded.answer
    averaged, note = _positive(coded, hits) if coded.binary else _macro(coded, hits)
    sure = judge_probabilities(coded.truth, probabilities, known=coded.known, names=coded.names)
    classes, confusion = _confusion(coded) if outputs == 1 else ((), ())
    return Findings(
        measures=(_accuracy(hits), *averaged, *sure.measures), calibration=sure.calibration, classes=classes,
        confusion=confusion, notes=(note, *_left_out(coded), *sure.notes),
    )  # fmt: skip


def _ordered(values: set[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=str)


def _left_out(coded: Coded) -> list[str]:
    """Say what is strange about the rows."""
    missing = int((coded.answer == _MISSING).any(axis=1).sum())
    unknown = int((coded.truth >= coded.known).any(axis=1).sum()) if coded.known else 0
    notes = [f"{counted(missing, 'answer')} missing (NaN), counted as wrong."] if missing else []
    return notes + ([f"{counted(unknown, 'label')} of classes that the model does not know."] if unknown else [])


def _accuracy(hits: Array) -> Measure:
    rows = len(hits)
    if hits.shape[1] == 1:
        low, high = wilson(int(hits.sum()), rows)
        return measured("accuracy", float(hits.mean()), (float(low), float(high)))
    each = hits.mean(axis=1)
    value = float(each.mean())
    return measured("accuracy", value, on_logit_scale(value, float(each.std(ddof=1)) / sqrt(rows), rows))


# ---- of one class ----


def _positive(coded: Coded, hits: Array) -> tuple[list[Measure], str]:
    """Return precision, recall and F1 of the last of two classes."""
    positive = repr(coded.names[1])
    told, said = coded.truth[:, 0] == 1, coded.answer[:, 0] == 1
    right = int((hits[:, 0] & told).sum())
    are, answered = int(told.sum()), int(said.sum())
    note = f"Precision, recall and F1 are of {positive}."
    rare = _scarce(coded.truth[:, 0], coded.names[:2])
    if rare is not None:
        return [too_few(name, rare[0], of=LEAST_OF_A_CLASS, what=rare[1]) for name in _AVERAGED], note
    precision = (
        _share("precision", right, answered)
        if answered >= LEAST_OF_A_CLASS
        else unsaid("precision", f"not enough answers yet: {answered} of {LEAST_OF_A_CLASS} of {positive}")
    )
    wrong = are + answered - 2 * right
    f1 = measured("F1", 2 * right / (are + answered), f1_interval(right, wrong))
    return [precision, _share("recall", right, are), f1], note


def _scarce(truth: Array, names: Sequence[Any]) -> tuple[int, str] | None:
    """Return how many labels the rarest class has, and its name in words, if that is not enough."""
    counts = np.bincount(truth[truth >= 0], minlength=len(names))[: len(names)]
    at = int(counts.argmin())
    return (int(counts[at]), f" of {names[at]!r}") if counts[at] < LEAST_OF_A_CLASS else None


def _share(name: str, part: int, of: int) -> Measure:
    low, high = wilson(part, of)
    return measured(name, part / of, (float(low), float(high)))


# ---- averages over classes ----


def _macro(coded: Coded, hits: Array) -> tuple[list[Measure], str]:
    """Return precision, recall and F1 as macro averages over the classes with enough labels."""
    rows, outputs = coded.truth.shape
    size = len(coded.names)
    told = [np.bincount(coded.truth[:, at][coded.truth[:, at] >= 0], minlength=size) for at in range(outputs)]
    fewest = min(int((one >= LEAST_OF_A_CLASS).sum()) for one in told)
    if fewest < _TWO:
        words = f"not enough labels yet: {LEAST_OF_A_CLASS} of each of two classes, so far of {fewest}"
        return [unsaid(name, words) for name in _AVERAGED], ""
    parts = [_averages(coded.truth[:, at], coded.answer[:, at], hits[:, at], told[at]) for at in range(outputs)]
    values = np.mean([one for one, _ in parts], axis=0)
    errors = np.sqrt((np.mean([one for _, one in parts], axis=0) ** 2).sum(axis=1))
    measures = [
        measured(name, float(value), on_logit_scale(float(value), float(error), rows))
        for name, value, error in zip(_AVERAGED, values, errors, strict=True)
    ]
    return measures, _averaged_over(told, outputs)


def _averages(truth: Array, answer: Array, hits: Array, told: Array) -> tuple[Array, Array]:
    """Return the three averages of one output, and what each row adds to them, to first order: (3,) and (3, n)."""
    size = len(told)
    answered = np.bincount(answer[answer >= 0], minlength=size)
    right = np.bincount(truth[hits & (truth >= 0)], minlength=size)
    chosen = told >= LEAST_OF_A_CLASS
    weight = chosen / chosen.sum()

    def side(codes: Array, ratio: Array, of: Array) -> Array:
        scale = np.append(weight / np.maximum(of, 1), 0.0)  # the last place is that of no answer
        adds: Array = (hits - np.append(ratio, 0.0)[codes]) * scale[codes]
        return adds

    both = told + answered
    precision, recall, f1 = (
        part / np.maximum(of, 1) for part, of in ((right, answered), (right, told), (2 * right, both))
    )
    adds = [
        side(answer, precision, answered),
        side(truth, recall, told),
        side(truth, f1, both) + side(answer, f1, both),
    ]
    return np.array([weight @ one for one in (precision, recall, f1)]), np.array(adds)


def _averaged_over(told: list[Array], outputs: int) -> str:
    if outputs > 1:
        return f"Averages over {outputs} outputs; precision, recall and F1 are macro averages in each."
    seen, enough = int((told[0] > 0).sum()), int((told[0] >= LEAST_OF_A_CLASS).sum())
    rest = "" if enough == seen else f" of {seen}, those with at least {LEAST_OF_A_CLASS} labels"
    return f"Precision, recall and F1 are macro averages over {enough} classes{rest}."


# ---- the confusion matrix ----


def _confusion(coded: Coded) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Return the classes and the rows by true class and answer; the rarest of many classes are one."""
    truth, answer, names = coded.truth[:, 0], coded.answer[:, 0], list(map(str, coded.names))
    places = np.arange(len(names) + 1)
    if len(names) > _CELLS:
        often = np.bincount(truth[truth >= 0], minlength=len(names))
        kept = np.sort(np.argsort(-often, kind="stable")[: _CELLS - 1])
        places = np.full(len(coded.names) + 1, _CELLS - 1)
        places[kept] = np.arange(_CELLS - 1)
        names = [*(names[at] for at in kept), "others"]
    places[-1] = len(names)  # no answer
    size = len(names) + 1
    table = np.bincount(places[truth] * size + places[answer], minlength=size * size).reshape(size, size)
    if not table[-1].any() and not table[:, -1].any():
        table = table[:-1, :-1]
    else:
        names.append("no answer")
    return tuple(names), tuple(map(tuple, table.tolist()))
