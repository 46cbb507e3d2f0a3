"""How much probabilities are worth: ROC AUC, log loss, Brier score and calibration, as scikit-learn counts them."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.monitoring.quality.findings import LEAST, LEAST_OF_A_CLASS, Findings, counted, measured, too_few, unsaid
from mlnb.monitoring.quality.intervals import mean_interval, on_logit_scale, wilson
from mlnb.monitoring.quality.report import CalibrationBin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.monitoring.quality.report import Measure

    Array = np.ndarray[Any, Any]

__all__ = ["PROBABILITIES", "judge_probabilities"]

PROBABILITIES = ("ROC AUC", "log loss", "Brier score")
_TWO = 2
_BINS = 10
_SLACK = 1e-3  # by which probabilities in single precision may miss a sum of 1


def judge_probabilities(truth: Array, probabilities: Array | None, *, known: int, names: Sequence[Any]) -> Findings:
    """Measure probabilities.

    Of two classes, all is about the last one; of more, the ROC AUC is the macro average of each class against the rest,
    the Brier score the sum over classes, and the calibration that of the likeliest class. The intervals: of the ROC AUC
    by DeLong, DeLong and Clarke-Pearson 1988 on the scale of log-odds; of log loss and Brier score by Student's t on
    the scale of logarithms; of a calibration bin by Wilson.

    Parameters
    ----------
    truth : ndarray of int, of shape (n, outputs)
        Places of the true classes.
    probabilities : ndarray of shape (m, classes), or None
        Of the last m rows; NaN where they are not known.
    known : int
        How many classes the model knows, first of all names.
    names : sequence
        Of the classes.
    """
    outputs = truth.shape[1]
    why = _unusable(probabilities, known=known, outputs=outputs)
    if why or probabilities is None:
        return Findings(measures=tuple(unsaid(name, why) for name in PROBABILITIES))
    told = truth[len(truth) - len(probabilities) :, 0]
    given, sound = _sound(probabilities)
    usable = sound & (told >= 0) & (told < known)
    notes = tuple(_left_out(len(truth) - int(given.sum()), int((given & ~sound).sum())))
    told, probabilities = told[usable], probabilities[usable]
    rows = len(told)
    if rows < LEAST:
        few = tuple(too_few(name, rows, what=" with probabilities") for name in PROBABILITIES)
        return Findings(measures=few, notes=notes)
    chosen = _with_enough(np.bincount(told, minlength=known))
    if known > _TWO:
        area = [f"ROC AUC is the average over {len(chosen)} classes, each against the rest."] if chosen else []
        notes = (*area, "Calibration is of the likeliest class.", *notes)
    likely = probabilities[np.arange(rows), told]
    losses = -np.log(np.clip(likely, np.finfo(float).eps, 1 - np.finfo(float).eps))  # as scikit-learn clips
    measures = (
        _auc(told, probabilities, names, chosen),
        _mean("log loss", losses),
        _mean("Brier score", _brier(told, probabilities)),
    )
    return Findings(measures=measures, calibration=_calibration(told, probabilities), notes=notes)


def _unusable(probabilities: Array | None, *, known: int, outputs: int) -> str:
    if outputs > 1:
        return "not said of several outputs"
    if probabilities is None:
        return "no probabilities"
    if not known:
        return "the model does not name its classes"
    if probabilities.ndim != _TWO or probabilities.shape[1] != known:
        return f"the probabilities do not fit the {known} classes"
    return ""


def _sound(probabilities: Array) -> tuple[Array, Array]:
    """Return which rows have probabilities, and which of them add up to 1 and are not below 0."""
    ones = np.ones(probabilities.shape[1])  # a product is faster than a sum over few columns
    totals, below = probabilities @ ones, np.minimum(probabilities, 0) @ ones
    given = np.isfinite(totals)
    return given, given & (np.abs(totals - 1) <= _SLACK) & (below >= -_SLACK)


def _left_out(without: int, unsound: int) -> list[str]:
    notes = [f"{counted(without, 'row')} without probabilities."] if without else []
    return notes + ([f"{counted(unsound, 'row')} whose probabilities do not add up to 1."] if unsound else [])


def _mean(name: str, values: Array) -> Measure:
    return measured(name, float(values.mean()), mean_interval(values))


def _brier(truth: Array, probabilities: Array) -> Array:
    """Return each row's squared distance from what was true; of two classes only the last counts."""
    if probabilities.shape[1] == _TWO:
        return np.asarray((probabilities[:, 1] - truth) ** 2)
    likely = probabilities[np.arange(len(truth)), truth]
    return np.asarray(np.einsum("ij,ij->i", probabilities, probabilities) - 2 * likely + 1)


# ---- ROC AUC ----


def _with_enough(counts: Array) -> list[int]:
    """Return the classes that a ROC AUC is made of: the last of two, else those with enough labels if they are two."""
    chosen: list[int] = np.flatnonzero(np.minimum(counts, counts.sum() - counts) >= LEAST_OF_A_CLASS).tolist()
    return [] if len(chosen) < _TWO else chosen[1:] if len(counts) == _TWO else chosen


def _auc(truth: Array, probabilities: Array, names: Sequence[Any], chosen: list[int]) -> Measure:
    counts = np.bincount(truth, minlength=probabilities.shape[1])
    if not chosen:
        rarest = int(counts.argmin())
        return too_few("ROC AUC", int(counts[rarest]), of=LEAST_OF_A_CLASS, what=f" of {names[rarest]!r}")
    parts = [_area(truth == at, probabilities[:, at]) for at in chosen]
    value = float(np.mean([one for one, _ in parts]))
    error = sqrt(float((np.mean([one for _, one in parts], axis=0) ** 2).sum()))
    fewest = min(int(min(counts[at], len(truth) - counts[at])) for at in chosen)
    return measured("ROC AUC", value, on_logit_scale(value, error, fewest))


def _area(positive: Array, score: Array) -> tuple[float, Array]:
    """Return the area under the curve, and what each row adds to it, to first order: a number and (n,).

    The squares of what the rows add have DeLong's variance as their sum.
    """
    rows, positives = len(score), int(positive.sum())
    negatives = rows - positives
    order = np.argsort(score)
    ranked, flags = score[order], positive[order]
    edges = np.concatenate([[0], np.flatnonzero(ranked[1:] != ranked[:-1]) + 1, [rows]])  # between which rows are tied
    hits = np.concatenate([[0], np.cumsum(flags)])[edges]
    hits_below = (hits[1:] + hits[:-1]) / 2  # those that are tied count half
    rows_below = (edges[1:] + edges[:-1]) / 2
    tied = np.diff(edges)
    exceeded = np.repeat((rows_below - hits_below) / negatives, tied)  # share of negatives that are below a row
    exceeding = np.repeat(1 - hits_below / positives, tied)  # share of positives that are above it
    area = float(exceeded[flags].mean())
    adds = np.empty(rows)
    adds[order] = np.where(
        flags,
        (exceeded - area) / sqrt(positives * (positives - 1)),
        (exceeding - area) / sqrt(negatives * (negatives - 1)),
    )
    return area, adds


# ---- calibration ----


def _calibration(truth: Array, probabilities: Array) -> tuple[CalibrationBin, ...]:
    """Return ten bins of about as many rows each, cut where scikit-learn's ``strategy="quantile"`` cuts."""
    if probabilities.shape[1] == _TWO:
        sure, right = probabilities[:, 1], truth == 1
    else:
        best = probabilities.argmax(axis=1)
        sure, right = probabilities[np.arange(len(truth)), best], best == truth
    edges = np.percentile(sure, np.linspace(0, 100, _BINS + 1))
    places = np.searchsorted(edges[1:-1], sure)
    counts = np.bincount(places, minlength=_BINS)
    some = counts > 0
    counts = counts[some]
    hits, sums = (np.bincount(places, weights=one, minlength=_BINS)[some] for one in (right, sure))
    low, high = wilson(hits, counts)
    columns = (sums / counts, hits / counts, low, high, counts)
    return tuple(
        CalibrationBin(predicted=predicted, observed=observed, low=below, high=above, count=count)
        for predicted, observed, below, above, count in zip(*(one.tolist() for one in columns), strict=True)
    )
