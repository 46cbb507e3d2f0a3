"""How the rules of a deployment stand, as a table for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, overload

from mlnb.durations import span_text
from mlnb.monitoring.alert_words import value_text
from mlnb.registry.tables import Cell, Column, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.monitoring.alerts import AlertState

__all__ = ["AlertTable"]

_MARKS = {"firing": "▲", "pending": "△", "ok": "✓", "no data": "—"}  # most urgent first
_COLOURS = {
    "firing": "var(--jp-error-color1, #d32f2f)", "pending": "var(--jp-warn-color1, #f57c00)",
    "ok": "var(--jp-success-color1, #388e3c)", "no data": "var(--jp-content-font-color2, #767676)",
}  # fmt: skip
_LEFT = "text-align: left; white-space: nowrap"
_NUMBER = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"
_NONE = "No rules: deployment.watch() sets those that hold unless others are given."


class AlertTable(Sequence["AlertState"]):
    """States of rules that show themselves as a table.

    Parameters
    ----------
    states : iterable of AlertState
    at : float
        Now, seconds since the epoch.

    Examples
    --------
    >>> from mlnb.monitoring.alerts import AlertRule, Alerts, Reading
    >>> alerts = Alerts([AlertRule(metric="p99", above=50), AlertRule(metric="quality", below=0.9)], name="iris")
    >>> changes = alerts.step(Reading(at=1000.0, version=1, requests=100, p99=80.0), now=0.0)
    >>> AlertTable(alerts.states(), at=1190.0)
    state      rule           now    for
    ▲ firing   p99 > 50 ms    80 ms  3m
    — no data  quality < 0.9
    """

    def __init__(self, states: Iterable[AlertState], *, at: float) -> None:
        self._states = tuple(states)
        self._at = at

    def __len__(self) -> int:
        return len(self._states)

    @overload
    def __getitem__(self, index: int) -> AlertState: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[AlertState, ...]: ...
    def __getitem__(self, index: int | slice) -> AlertState | tuple[AlertState, ...]:
        return self._states[index]

    def __repr__(self) -> str:
        if not self._states:
            return _NONE
        columns = zip(*map(self._row, self._states), strict=True)
        return lay_out(
            [
                Column(title, tuple(map(Cell, texts)))
                for title, texts in zip(("state", "rule", "now", "for"), columns, strict=True)
            ]
        )

    def _repr_html_(self) -> str:
        if not self._states:
            return f"<p>{escape(_NONE)}</p>"
        head = "".join(
            f'<th style="{style}">{title}</th>'
            for title, style in (("state", _LEFT), ("rule", _LEFT), ("now", _NUMBER), ("for", _NUMBER))
        )
        rows = "".join(map(self._html_row, self._states))
        return f'<table class="mlnb-alert-states"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'

    def _html_row(self, one: AlertState) -> str:
        state, *texts = map(escape, self._row(one))
        cells = "".join(
            f'<td style="{style}">{text}</td>' for text, style in zip(texts, (_LEFT, _NUMBER, _NUMBER), strict=True)
        )
        shown = f'<td style="{_LEFT}; color: {_COLOURS[one.state]}">{state}</td>'
        return f'<tr title="{escape(one.words)}">{shown}{cells}</tr>'

    def _row(self, one: AlertState) -> tuple[str, str, str, str]:
        """Return the state, the rule, its value and how long it has been so."""
        value = "" if one.value is None else value_text(one.rule.metric, one.value)
        lasted = span_text(max(0.0, self._at - one.since)) if one.since and one.state in ("firing", "pending") else ""
        return f"{_MARKS[one.state]} {one.state}", self._rule(one), value, lasted

    def _rule(self, one: AlertState) -> str:
        """Return a rule's name, with the rule where the name is another."""
        rule = one.rule
        text = f"{rule.metric} {rule.limit}"
        return rule.name if text in rule.name else f"{rule.name} ({text})"
