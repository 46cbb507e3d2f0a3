"""What a benchmark found, as people get it: a table, a line of verdict, a chart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mlnb.errors import MissingLibraryError
from mlnb.monitoring.load.saturation import BUSY, Saturation, find_saturation

if TYPE_CHECKING:
    from mlnb.monitoring.load.step import Step
    from mlnb.registry.tables import Cell, Column

__all__ = ["BenchmarkResult"]

_ROUNDED = 1000  # requests per second from which the last digits are noise
_GOOD = "color: var(--jp-success-color1, #388e3c)"
_NUMBER = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BenchmarkResult:
    """What an endpoint took, step by step.

    Attributes
    ----------
    url : str
    steps : tuple of Step
        With more connections from one to the next.
    rate : float or None
        Requests per second that were offered in each step; None if each connection waited for its answers.
    """

    url: str
    steps: tuple[Step, ...]
    rate: float | None = None

    @property
    def saturation(self) -> Saturation | None:
        """Where more connections only wait longer; None if that was not reached, or a rate was offered."""
        return None if self.rate is not None else find_saturation(self.steps)

    @property
    def verdict(self) -> str:
        """What the endpoint takes, in one line, with a line more for what was refused and for what failed."""
        return "\n".join([self._finding(), *self._troubles()])

    def figure(self) -> Any:
        """Draw throughput and latency over connections.

        Returns
        -------
        plotly.graph_objects.Figure

        Raises
        ------
        MissingLibraryError
            If plotly is not installed.
        """
        from mlnb.monitoring.figures import benchmark_figure

        if not _has_plotly():
            raise MissingLibraryError("The figure needs plotly. Run: pip install 'mlnb[lab]'")
        return benchmark_figure(self)

    def __repr__(self) -> str:
        from mlnb.registry.tables import lay_out

        return f"{lay_out(self._columns())}\n{self.verdict}"

    def table_html(self) -> str:
        """Return the table of the steps without the verdict, to stand beside the figure."""
        columns = self._columns()
        head = "".join(f'<th style="{_NUMBER}">{escape(one.title)}</th>' for one in columns)
        rows = zip(*(one.cells for one in columns), strict=True)
        body = "".join(f"<tr>{''.join(map(_html, row))}</tr>" for row in rows)
        return f'<table class="mlnb-benchmark"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

    def _repr_html_(self) -> str:
        return f"<p>{'<br>'.join(map(escape, self.verdict.splitlines()))}</p>{self.table_html()}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if _has_plotly():
            figure = json.loads(self.figure().to_json())
            bundle["application/vnd.plotly.v1+json"] = figure | {"config": {"displayModeBar": False}}
        return bundle

    def _finding(self) -> str:
        best = max(self.steps, key=lambda step: step.throughput)
        if best.p99 is None:
            return "There was no good answer."
        where = f"at {_connections(best.connections)} (p99 {_milliseconds(best.p99)})"
        if self.rate is not None:
            share = min(1.0, best.throughput / self.rate)
            return f"Of {_per_second(self.rate)} offered, {share:.1%} were answered well {where}."
        knee = self.saturation
        if knee is not None:
            return (
                f"Takes about {_per_second(knee.throughput)} at {_connections(knee.connections)} "
                f"(p99 {_milliseconds(knee.p99)}); more connections only wait longer."
            )
        reason = "saturation was not reached" if best.cpu < BUSY else "the load generator itself was the limit"
        return f"Takes at least {_per_second(best.throughput)} {where}; {reason}."

    def _troubles(self) -> list[str]:
        total = sum(step.requests for step in self.steps)
        refused, failed = (sum(getattr(step, what) for step in self.steps) for what in ("refused", "failed"))
        said = [f"{_share(refused, total)} refused (429 or 503)."] if refused else []
        if failed:
            first = next(step.failure for step in self.steps if step.failure)
            said.append(f"{_share(failed, total)} not answered well, the first: {_explained(first)}.")
        return said

    def _columns(self) -> list[Column]:
        from mlnb.registry.tables import Cell, Column

        knee = self.saturation
        marks = ["●" if knee is not None and step.connections == knee.connections else "" for step in self.steps]
        connections = tuple(
            Cell(str(step.connections), mark=mark) for step, mark in zip(self.steps, marks, strict=True)
        )
        figures = {
            "requests/s": [f"{step.throughput:,.0f}" for step in self.steps],
            **{f"{name} ms": self._latencies(name) for name in ("p50", "p90", "p99")},
            "good": [f"{step.good:,}" for step in self.steps],
            "refused": [f"{step.refused:,}" for step in self.steps],
            "failed": [f"{step.failed:,}" for step in self.steps],
            **({} if self.rate is None else {"unsent": [f"{step.unsent:,}" for step in self.steps]}),
            "generator CPU": [f"{step.cpu:.0%}" for step in self.steps],
        }
        return [
            Column("connections", connections, kind="number"),
            *(Column(title, tuple(map(Cell, texts)), kind="number") for title, texts in figures.items()),
        ]

    def _latencies(self, name: str) -> list[str]:
        """Write a quantile of all steps with as many decimals, so that their points stand in one line."""
        values: list[float | None] = [getattr(step, name) for step in self.steps]
        decimals = 2 if max((value for value in values if value is not None), default=0) < 100 else 1  # noqa: PLR2004 - four digits
        return ["—" if value is None else f"{value:,.{decimals}f}" for value in values]


def _has_plotly() -> bool:
    return find_spec("plotly") is not None


def _html(cell: Cell) -> str:
    mark = f'<span style="{_GOOD}">{cell.mark}</span> ' if cell.mark else ""
    return f'<td style="{_NUMBER}">{mark}{escape(cell.text)}</td>'


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} requests {'was' if count == 1 else 'were'}"


def _connections(number: int) -> str:
    return f"{number} connection{'s' * (number > 1)}"


def _per_second(throughput: float) -> str:
    """Write a rate without the digits that another run would not repeat.

    Examples
    --------
    >>> _per_second(5342.7), _per_second(421.3), _per_second(3.14)
    ('5,300 requests/s', '421 requests/s', '3.1 requests/s')
    """
    if throughput < 10:  # noqa: PLR2004 - one digit
        return f"{throughput:.1f} requests/s"
    digits = 2 - len(f"{throughput:.0f}") if throughput >= _ROUNDED else 0
    return f"{round(throughput, digits):,.0f} requests/s"


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"  # noqa: PLR2004 - three digits


def _explained(failure: str) -> str:
    """Add its name to a status.

    Examples
    --------
    >>> _explained("status 404"), _explained("no answer in time")
    ('status 404 Not Found', 'no answer in time')
    """
    kind, _, code = failure.partition(" ")
    known = kind == "status" and int(code) in set(HTTPStatus)
    return f"{failure} {HTTPStatus(int(code)).phrase}" if known else failure
