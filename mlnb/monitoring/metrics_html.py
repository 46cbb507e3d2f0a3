"""A deployment's metrics as a table for a notebook."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from mlnb.monitoring.numerals import duration, figure, milliseconds, percent

if TYPE_CHECKING:
    from mlnb.monitoring.metrics import MetricsSnapshot, WindowMetrics

__all__ = ["last_error", "metrics_html"]

_NUMBER = 'style="text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"'
_TEXT = 'style="text-align: left; white-space: nowrap"'
_MINUTE = 60
_LONGEST = 24  # characters of a class
_TITLES = ("requests", "req/s", "errors", "p50", "p95", "p99", "queue p95", "batch", "answers")


def metrics_html(metrics: MetricsSnapshot) -> str:
    """Return a row for each window, and the last error below; the totals where no window was asked for."""
    head = "".join(f"<th {_NUMBER}>{title}</th>" for title in _TITLES[:-1])
    head += f'<th style="text-align: left">{_TITLES[-1]}</th>'
    if metrics.windows:
        rows = "".join(_row(window) for window in metrics.windows)
        table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    else:
        table = f"<p>{escape(metrics.words)}</p>"
    if metrics.last_error is None:
        return table
    return f"{table}<small>Last error{_at(metrics.last_error_at)}: {escape(metrics.last_error)}</small>"


def last_error(metrics: MetricsSnapshot, *, now: float) -> str:
    """Return the last error and when it was, as HTML; "" without one. After a minute it is no alarm any more.

    Parameters
    ----------
    metrics : MetricsSnapshot
    now : float
        Seconds since the epoch.
    """
    if metrics.last_error is None:
        return ""
    ago = 0.0 if metrics.last_error_at is None else now - metrics.last_error_at
    when = "" if metrics.last_error_at is None else f", {duration(ago)} ago"
    look = "mlnb-failure" if ago < _MINUTE else "mlnb-muted"
    return f'<span class="{look}">Last error{when}: {escape(metrics.last_error)}</span>'


def _cut(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def _at(moment: float | None) -> str:
    from mlnb.registry.tables import format_time

    return "" if moment is None else f" at {format_time(datetime.fromtimestamp(moment, UTC))}"


def _row(window: WindowMetrics) -> str:
    latency = window.latency
    cells = (
        f"{window.requests:,}", figure(window.rate),
        f"{window.errors:,}", *map(milliseconds, (latency.p50, latency.p95, latency.p99, window.waited.p95)),
        figure(window.batch.mean),
    )  # fmt: skip
    numbers = "".join(f"<td {_NUMBER}>{cell}</td>" for cell in cells)
    return f'<tr><th {_TEXT}>{window.name}</th>{numbers}<td style="text-align: left">{_answers(window)}</td></tr>'


def _answers(window: WindowMetrics) -> str:
    """Return in a few words what was answered, as HTML that wraps between them only.

    Examples
    --------
    >>> from mlnb.monitoring.metrics import Answers, WindowMetrics
    >>> answers = Answers(version=3, count=4, missing=1, classes={"benign": 3})
    >>> _answers(WindowMetrics(name="1 minute", seconds=60, answers=(answers,)))
    '<span style="white-space: nowrap">benign 75 %,</span> <span style="white-space: nowrap">missing 25 %</span>'
    """
    parts = []
    for one in window.answers:
        said = [f"{_cut(label)} {percent(count / one.count)}" for label, count in list(one.classes.items())[:3]]
        if one.numbers is not None:
            said.append(f"{one.numbers[3]:.4g} ({one.numbers[1]:.4g} to {one.numbers[5]:.4g})")
        if one.missing:
            said.append(f"missing {percent(one.missing / one.count)}")
        if said:
            said[0] = (f"v{one.version}: " if len(window.answers) > 1 else "") + said[0]
            parts += [f"{word}," for word in said[:-1]] + [f"{said[-1]};"]
    if parts:
        parts[-1] = parts[-1].removesuffix(";")
    return " ".join(f'<span style="white-space: nowrap">{escape(part)}</span>' for part in parts)
