"""A deployment's metrics as a table for a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlnb.monitoring.metrics import MetricsSnapshot, WindowMetrics

__all__ = ["metrics_html"]

_NUMBER = 'style="text-align: right; font-variant-numeric: tabular-nums"'
_TITLES = ("requests", "per second", "errors", "p50", "p95", "p99", "queue p95", "batch", "answers")


def metrics_html(metrics: MetricsSnapshot) -> str:
    """Return a row for each window, and the last error below; the totals where no window was asked for."""
    head = "".join(f'<th style="text-align: right">{title}</th>' for title in _TITLES[:-1])
    head += f'<th style="text-align: left">{_TITLES[-1]}</th>'
    rows = "".join(_row(window) for window in metrics.windows)
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else _line(metrics)
    if metrics.last_error is None:
        return table
    return f"{table}<small>Last error: {escape(metrics.last_error)}</small>"


def _row(window: WindowMetrics) -> str:
    latency = window.latency
    cells = (
        f"{window.requests:,}", f"{window.rate:,.3g}" if window.rate < 1000 else f"{window.rate:,.0f}",  # noqa: PLR2004
        f"{window.errors:,}", *(_milliseconds(one) for one in (latency.p50, latency.p95, latency.p99)),
        _milliseconds(window.waited.p95), "—" if window.batch.mean is None else f"{window.batch.mean:,.3g}",
    )  # fmt: skip
    numbers = "".join(f"<td {_NUMBER}>{cell}</td>" for cell in cells)
    return (
        f'<tr><th style="text-align: left">{window.name}</th>{numbers}'
        f'<td style="text-align: left">{escape(_answers(window))}</td></tr>'
    )


def _answers(window: WindowMetrics) -> str:
    """Return in a few words what was answered.

    Examples
    --------
    >>> from mlnb.monitoring.metrics import Answers, WindowMetrics
    >>> answers = Answers(version=3, count=4, missing=1, classes={"benign": 3})
    >>> _answers(WindowMetrics(name="1 minute", seconds=60, answers=(answers,)))
    'benign 75 %, missing 25 %'
    """
    parts = []
    for one in window.answers:
        said = [f"{label} {100 * count / one.count:.0f} %" for label, count in list(one.classes.items())[:3]]
        if one.numbers is not None:
            said.append(f"{one.numbers[3]:.4g} ({one.numbers[1]:.4g} to {one.numbers[5]:.4g})")
        if one.missing:
            said.append(f"missing {100 * one.missing / one.count:.0f} %")
        if said:
            parts.append((f"v{one.version}: " if len(window.answers) > 1 else "") + ", ".join(said))
    return "; ".join(parts)


def _line(metrics: MetricsSnapshot) -> str:
    return (
        f"<p>{metrics.requests:,} requests, {metrics.errors:,} errors; p50 {_milliseconds(metrics.p50)}, "
        f"p99 {_milliseconds(metrics.p99)} over the last minute</p>"
    )


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:.2g} ms" if value < 1 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"  # noqa: PLR2004
