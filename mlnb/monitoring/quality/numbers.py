"""How far numbers are off: mean absolute error, root mean squared error and R², as scikit-learn counts them."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.monitoring.quality.findings import LEAST, Findings, counted, measured, too_few, unsaid
from mlnb.monitoring.quality.intervals import mean_interval, on_log_scale

if TYPE_CHECKING:
    from mlnb.monitoring.quality.report import Measure

    Array = np.ndarray[Any, Any]

__all__ = ["NUMBERS", "judge_numbers"]

NUMBERS = ("MAE", "RMSE", "R²")


def judge_numbers(truth: Array, prediction: Array) -> Findings:
    """Measure answers that are numbers; of several outputs the average.

    The intervals: of MAE by Student's t; of RMSE and of 1 - R² by the delta method; all on the scale of logarithms.

    Parameters
    ----------
    truth, prediction : ndarray of float, of shape (n, outputs)
        Rows without a finite number everywhere are left out, and counted in the notes.
    """
    finite = (np.isfinite(truth) & np.isfinite(prediction)).all(axis=1)
    lost = len(truth) - int(finite.sum())
    notes = (f"{counted(lost, 'row')} without a finite answer left out.",) if lost else ()
    truth, prediction = truth[finite], prediction[finite]
    if len(truth) < LEAST:
        return Findings(measures=tuple(too_few(name, len(truth)) for name in NUMBERS), notes=notes)
    if truth.shape[1] > 1:
        notes = (f"Averages over {truth.shape[1]} outputs.", *notes)
    with np.errstate(over="ignore", invalid="ignore"):
        errors = truth - prediction
        squares, absolute = errors**2, np.abs(errors).mean(axis=1)
        mae = measured("MAE", float(absolute.mean()), mean_interval(absolute))
        return Findings(measures=(mae, _rmse(squares), _determined(squares, truth)), notes=notes)


def _rmse(squares: Array) -> Measure:
    each = np.sqrt(squares.mean(axis=0))
    part = (squares - each**2) / (2 * np.where(each > 0, each, 1.0))  # what each row adds to the root, to first order
    value, count = float(each.mean()), len(squares)
    return measured("RMSE", value, on_log_scale(value, float(part.mean(axis=1).std(ddof=1)) / sqrt(count), count))


def _determined(squares: Array, truth: Array) -> Measure:
    """Return R², of the outputs whose truth is not always the same."""
    distances = (truth - truth.mean(axis=0)) ** 2
    varied = np.ptp(truth, axis=0) > 0
    if not varied.any():
        return unsaid("R²", "undefined: all labels are the same")
    squares, distances = squares[:, varied], distances[:, varied]
    spread = distances.mean(axis=0)
    left = squares.mean(axis=0) / spread  # 1 - R²
    part = ((squares - left * distances) / spread).mean(axis=1)
    value, count = float(left.mean()), len(squares)
    low, high = on_log_scale(value, float(part.std(ddof=1)) / sqrt(count), count)
    return measured("R²", 1 - value, (1 - high, 1 - low))
