"""Rules and values of alerts as text: what people write, and what they are told."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from mlnb.durations import UNITS, duration_text, seconds_of, span_text
from mlnb.errors import InvalidInputError, nearest

__all__ = ["METRICS", "SHARES", "WRITTEN", "Metric", "check_metric", "limit_text", "read_rule", "value_text"]

Metric = Literal[
    "error rate", "refused", "p50", "p95", "p99", "rate", "drift", "quality", "silence", "crashes", "dropped"
]  # fmt: skip

METRICS: tuple[str, ...] = get_args(Metric)
SHARES = ("error rate", "refused", "drift")
WRITTEN = 'write it like "error rate > 5% for 1m"'
_LATENCIES = ("p50", "p95", "p99")
_RATES = ("/s", "req/s")
_SECOND = 1000  # milliseconds
_TEXT = re.compile(
    r"(?P<metric>[^<>]+?)\s*(?P<sign>>|<|\babove\b|\bbelow\b)\s*(?P<number>-?[0-9]+(?:\.[0-9]+)?)\s*"
    r"(?P<unit>%|[a-z/]*)(?:\s+for\s+(?P<lasting>\S.*?)(?:\s+and\s+(?P<rows>[0-9]{1,9})\s+rows)?)?"
)
_LABELS = '"quality" is what labels tell: the accuracy of classes, or the MAE of numbers'
_TIMES = 'latency is "p50", "p95" or "p99"'
_OTHER = {
    _LABELS: ("accuracy", "precision", "recall", "f1", "roc auc", "auc", "log loss", "brier score", "mae", "rmse"),
    _TIMES: ("latency", "response time", "duration", "time", "p90", "p99.9", "median", "mean"),
}  # fmt: skip
_HINTS = {word: hint for hint, words in _OTHER.items() for word in words}


def check_metric(given: Any) -> None:
    """Refuse what is no metric, with the one that may be meant.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_metric("accuracy")
    Traceback (most recent call last):
    mlnb.errors.InvalidInputError: There is no metric 'accuracy' to alert on; "quality" is what labels tell: the \
accuracy of classes, or the MAE of numbers.
    """
    if given in METRICS:
        return
    hint = _HINTS.get(str(given).lower()) or nearest(str(given), METRICS)
    raise InvalidInputError(f"There is no metric {given!r:.40} to alert on; {hint.removesuffix('.')}.")


def read_rule(text: str) -> dict[str, Any]:
    """Return the values of a rule by name.

    Parameters
    ----------
    text : str
        A metric, ">" or "<", a limit with its unit, and "for" with a duration if it is to last, which rows may follow.

    Raises
    ------
    InvalidInputError
        If it is none.

    Examples
    --------
    >>> read_rule("p99 > 2 s for 1 minute")
    {'metric': 'p99', 'above': 2000.0, 'lasting': '1 minute', 'rows': 0}
    >>> read_rule("drift > 0% for 5m and 1000 rows")
    {'metric': 'drift', 'above': 0.0, 'lasting': '5m', 'rows': 1000}
    """
    found = _TEXT.fullmatch(text.strip().lower())
    if found is None:
        raise InvalidInputError(f"{text!r:.80} is no rule; {WRITTEN}.")
    metric, number = found["metric"], found["number"]
    check_metric(metric)
    if metric in SHARES and not found["unit"] and float(number) >= 1:
        raise InvalidInputError(f'{text!r:.80} lacks a "%": write "{metric} {found["sign"]} {number}%".')
    side = "above" if found["sign"] in (">", "above") else "below"
    return {
        "metric": metric, side: _limit(metric, number, found["unit"]), "lasting": found["lasting"] or 0.0,
        "rows": int(found["rows"] or 0),
    }  # fmt: skip


def limit_text(metric: str, limit: float) -> str:
    """Write a limit as :func:`read_rule` reads it.

    Examples
    --------
    >>> limit_text("error rate", 0.05), limit_text("p99", 50), limit_text("p99", 2000), limit_text("silence", 600)
    ('5 %', '50 ms', '2 s', '10m')
    """
    return duration_text(limit) if metric == "silence" else _with_unit(metric, limit, digits=9)


def value_text(metric: str, value: float) -> str:
    """Write a value to three digits.

    Examples
    --------
    >>> value_text("error rate", 0.0512), value_text("p99", 12345.6), value_text("rate", 12345.6)
    ('5.12 %', '12.3 s', '12346 req/s')
    >>> value_text("silence", 45.3), value_text("silence", 725), value_text("crashes", 1.0)
    ('45s', '12m', '1')
    """
    return span_text(value) if metric == "silence" else _with_unit(metric, value, digits=3)


def _with_unit(metric: str, value: float, *, digits: int) -> str:
    if metric in SHARES:
        return f"{_figure(value * 100, digits)} %"
    if metric in _LATENCIES:
        in_seconds = float(_figure(value, digits)) >= _SECOND
        return f"{_figure(value / _SECOND, digits)} s" if in_seconds else f"{_figure(value, digits)} ms"
    return _figure(value, digits) + (" req/s" if metric == "rate" else "")


def _figure(value: float, digits: int) -> str:
    return f"{value:.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:.{digits}g}"


def _limit(metric: str, number: str, unit: str) -> float:
    """Return a limit in the metric's own unit."""
    if not unit or (metric == "rate" and unit in _RATES):
        return float(number)
    if metric in SHARES and unit == "%":
        return float(number) / 100
    if unit in UNITS and metric == "silence":
        return seconds_of(number + unit, what=metric)
    if unit in UNITS and metric in _LATENCIES:
        return round(seconds_of(number + unit, what=metric) * _SECOND, 6)
    raise InvalidInputError(f"{number} {unit}: {metric!r} is not measured in {unit}; {WRITTEN}.")
