"""What policies made of a simulated load, as tables, frames and charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import isnan
from typing import TYPE_CHECKING, Any, overload

from mlnb.durations import span_text
from mlnb.errors import MissingLibraryError
from mlnb.monitoring.numerals import NONE, figure, milliseconds, percent
from mlnb.registry.tables import Cell, Column, lay_out

if TYPE_CHECKING:
    import pandas as pd

    from mlnb.monitoring.scaling_picture import ScalingFigures, ScalingPicture
    from mlnb.scaling.autoscale import Autoscale
    from mlnb.scaling.service_time import ServiceTime
    from mlnb.scaling.simulation.needs import Machine, Needs
    from mlnb.scaling.simulation.outcome import Outcome

__all__ = ["Simulation", "SimulationTable"]

_SHOWN = 8  # decisions that are shown, the first and the last ones
_WIDE = 120  # characters of a line
_HOURS = 36_000  # seconds that are written as hours
_MEANINGS = {
    "replicas": "on average, those that start included",
    "replica time": "how long replicas were there, added up",
    "turns": "changes that went the other way than the one before",
    "woken": "requests that arrived when there was no replica",
    "unanswered": "requests for which no replica came",
}
_NUMBER = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"
_TEXT = "text-align: left; white-space: nowrap"
_PROSE = "text-align: left"
_MUTED = "color: var(--jp-content-font-color2, #767676)"


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What one policy made of a load.

    Attributes
    ----------
    name : str
        Of the policy.
    outcome : Outcome
    autoscale : Autoscale
    service : ServiceTime
    """

    name: str
    outcome: Outcome
    autoscale: Autoscale
    service: ServiceTime

    def frame(self) -> pd.DataFrame:
        """Return what happened in each interval.

        Returns
        -------
        DataFrame
            ``at`` (seconds from the beginning), ``rate`` and ``capacity`` (requests/s), ``ready``, ``starting``,
            ``leaving`` and ``desired`` (replicas), ``in_flight`` and ``waiting`` (requests), ``utilisation`` (a share
            from 0 to 1), ``p95_ms`` (of the latest answers).

        Raises
        ------
        MissingLibraryError
            If pandas is not installed.
        """
        line = self.outcome.timeline
        columns = {
            "at": line.at, "rate": line.requests / line.interval, "capacity": line.ready * self.service.capacity,
            "ready": line.ready, "starting": line.starting, "leaving": line.leaving, "desired": line.desired,
            "in_flight": line.in_flight, "waiting": line.waiting, "utilisation": line.utilisation,
            "p95_ms": line.p95 * 1e3,
        }  # fmt: skip
        frame: pd.DataFrame = _pandas().DataFrame(columns)
        return frame

    def decisions(self) -> pd.DataFrame:
        """Return the decisions that changed the number of replicas.

        Returns
        -------
        DataFrame
            ``at`` (seconds from the beginning), ``metric``, ``value``, ``target``, ``rule``, ``before`` and
            ``desired`` (replicas), ``reason``.

        Raises
        ------
        MissingLibraryError
            If pandas is not installed.
        """
        names = ["at", "metric", "value", "target", "rule", "before", "desired", "reason"]
        rows = [
            (one.sample.at, one.metric, one.value, one.target, one.rule, one.sample.desired, one.desired, one.reason)
            for one in self.outcome.decisions
        ]
        frame: pd.DataFrame = _pandas().DataFrame(rows, columns=names)
        return frame

    def figure(self) -> Any:
        """Return a chart of load, capacity and replicas, with the reason of each change on hover.

        Raises
        ------
        MissingLibraryError
            If plotly is not installed.
        """
        from mlnb.monitoring.figures_scaling import scaling_figure

        return scaling_figure(self.picture())

    def picture(self) -> ScalingPicture:
        """Return what is drawn."""
        from mlnb.monitoring.scaling_picture import ScalingPicture

        line, outcome = self.outcome.timeline, self.outcome
        return ScalingPicture(
            name=self.name, at=tuple(line.at.tolist()), rate=tuple((line.requests / line.interval).tolist()),
            capacity=tuple((line.ready * self.service.capacity).tolist()), ready=tuple(line.ready.tolist()),
            desired=tuple(line.desired.tolist()), p95=_known(line.p95 * 1e3), objective=outcome.objective,
            changes=tuple((one.sample.at, one.desired, one.reason) for one in outcome.decisions), epoch=False,
        )  # fmt: skip

    def needs(
        self, rates: Iterable[float] = (10_000, 1_000_000), *, memory: int | None = None, machine: Machine | None = None
    ) -> Needs:
        """Return what rates of requests need on a cluster, for the same service time and objective.

        See :func:`mlnb.scaling.simulation.needs.needs` for what is assumed.

        Parameters
        ----------
        rates : iterable of float
            Requests per second.
        memory : int, optional
            Bytes that one replica takes.
        machine : Machine, optional
            Default: 16 cores and 64 GB.
        """
        from mlnb.scaling.simulation.needs import needs

        objective = None if self.outcome.objective is None else self.outcome.objective / 1e3
        return needs(self.service, rates=rates, objective=objective, memory=memory, machine=machine)

    def figures(self) -> ScalingFigures:
        """Return what is compared."""
        from mlnb.monitoring.scaling_picture import ScalingFigures

        share, outcome = self.outcome.over_share, self.outcome
        return ScalingFigures(
            name=self.name, over=float("nan") if share is None else share, replica_seconds=outcome.replica_seconds,
            turns=outcome.flaps,
        )  # fmt: skip

    def __repr__(self) -> str:
        lines = [self._headline(), lay_out(_columns([self])[1:])]
        if self.outcome.decisions:
            lines.append(lay_out(_decision_columns(self.outcome)))
        return "\n\n".join(lines)

    def _repr_html_(self) -> str:
        said = f'<div style="{_MUTED}">{escape(self._headline())}</div>'
        tables = _html(_columns([self])[1:])
        if self.outcome.decisions:
            tables += _html(_decision_columns(self.outcome))
        return f'<div class="mlnb-simulation">{said}{tables}</div>'

    def _headline(self) -> str:
        return f"{_heading(self)} · {self.name}"


class SimulationTable(Sequence[Simulation]):
    """What several policies made of the same load, side by side.

    Parameters
    ----------
    simulations : iterable of Simulation
    """

    def __init__(self, simulations: Iterable[Simulation]) -> None:
        self._simulations = tuple(simulations)

    def __len__(self) -> int:
        return len(self._simulations)

    @overload
    def __getitem__(self, index: int | str) -> Simulation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Simulation, ...]: ...
    def __getitem__(self, index: int | str | slice) -> Simulation | tuple[Simulation, ...]:
        if isinstance(index, str):
            return self._simulations[[one.name for one in self].index(index)]
        return self._simulations[index]

    def frame(self) -> pd.DataFrame:
        """Return a row for each policy; times in milliseconds, shares from 0 to 1.

        Raises
        ------
        MissingLibraryError
            If pandas is not installed.
        """
        rows = [
            {
                "policy": one.name, "requests": made.requests, "over": made.over, "over_share": made.over_share,
                "p50_ms": made.p50, "p95_ms": made.p95, "p99_ms": made.p99, "replica_seconds": made.replica_seconds,
                "mean_replicas": made.mean_replicas, "most": made.most, "changes": made.changes, "flaps": made.flaps,
                "woken": made.woken, "unanswered": made.unanswered,
            }
            for one in self
            for made in (one.outcome,)
        ]  # fmt: skip
        frame: pd.DataFrame = _pandas().DataFrame(rows)
        return frame

    def figure(self) -> Any:
        """Return a chart of replicas over time for each policy, and of what they are compared by.

        Raises
        ------
        MissingLibraryError
            If plotly is not installed.
        """
        from mlnb.monitoring.figures_scaling import comparison_figure

        return comparison_figure([one.picture() for one in self], [one.figures() for one in self])

    def needs(
        self, rates: Iterable[float] = (10_000, 1_000_000), *, memory: int | None = None, machine: Machine | None = None
    ) -> Needs:
        """Return what rates of requests need on a cluster, whatever the policy; see :meth:`Simulation.needs`."""
        return self[0].needs(rates, memory=memory, machine=machine)

    def __repr__(self) -> str:
        return f"{_heading(self[0])}\n\n{lay_out(_columns(self), width=_WIDE)}"

    def _repr_html_(self) -> str:
        said = f'<div style="{_MUTED}">{escape(_heading(self[0]))}</div>'
        return f'<div class="mlnb-simulation">{said}{_html(_columns(self))}</div>'


# ---- what is shown ----


def _heading(one: Simulation) -> str:
    made = one.outcome
    counted = "" if "recorded" in made.load else f", {made.requests:,} requests"
    return (
        f"Simulated: {made.load} for {span_text(made.seconds)}{counted}, one takes "
        f"{milliseconds(one.service.of(1) * 1e3)}"
    )


def _columns(simulations: Sequence[Simulation]) -> list[Column]:
    """Return a line of figures for each; what none of them has is left out."""
    made = [one.outcome for one in simulations]
    columns = [Column("policy", tuple(Cell(one.name) for one in simulations), least=16)]
    objective = made[0].objective
    if objective is not None:
        columns.append(_numbers(f"over {figure(objective)} ms", [_share(one) for one in made]))
    columns += [
        _numbers("p50", [milliseconds(one.p50) for one in made]),
        _numbers("p95", [milliseconds(one.p95) for one in made]),
        _numbers("p99", [milliseconds(one.p99) for one in made]),
        _numbers("replicas", [figure(one.mean_replicas) for one in made]),
        _numbers("most", [f"{one.most}" for one in made]),
        _numbers("replica time", [_long(one.replica_seconds) for one in made]),
        _numbers("changes", [f"{one.changes:,}" for one in made]),
        _numbers("turns", [f"{one.flaps:,}" for one in made]),
    ]
    for title, counts in (("woken", [one.woken for one in made]), ("unanswered", [one.unanswered for one in made])):
        if any(counts):
            columns.append(_numbers(title, [f"{count:,}" for count in counts]))
    return columns


def _numbers(title: str, cells: Iterable[str]) -> Column:
    return Column(title, tuple(Cell(cell, title=_meaning(title)) for cell in cells), kind="number")


def _meaning(title: str) -> str:
    return _MEANINGS.get(title, "")


def _share(outcome: Outcome) -> str:
    return NONE if outcome.over_share is None else percent(outcome.over_share)


def _long(seconds: float) -> str:
    """Write how long replicas were there, added up.

    Examples
    --------
    >>> _long(90), _long(300_000)
    ('90 s', '83.3 h')
    """
    return f"{figure(seconds)} s" if seconds < _HOURS else f"{figure(seconds / 3600)} h"


def _decision_columns(outcome: Outcome) -> list[Column]:
    """Return the first decisions that changed something, and the last ones."""
    kept = outcome.decisions
    left = len(kept) - _SHOWN
    some = kept if left <= 1 else (*kept[: _SHOWN // 2], None, *kept[-_SHOWN // 2 :])
    rows = [
        ("…", "", "", f"{left} more: .decisions()")
        if one is None
        else (_clock(one.sample.at), f"{one.sample.desired} → {one.desired}", one.rule, one.reason)
        for one in some
    ]
    after, counts, rules, reasons = (tuple(map(Cell, cells)) for cells in zip(*rows, strict=True))
    return [
        Column("after", after, kind="number"), Column("replicas", counts), Column("rule", rules),
        Column("reason", reasons, kind="prose", least=30),
    ]  # fmt: skip


def _clock(seconds: float) -> str:
    """Write how long after the beginning, in hours, minutes and seconds.

    Examples
    --------
    >>> _clock(4.5), _clock(3725.0)
    ('0:04.5', '1:02:05')
    """
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:02.0f}" if hours else f"{minutes}:{rest:04.1f}"


def _html(columns: Sequence[Column]) -> str:
    styles = [_NUMBER if one.kind == "number" else _PROSE if one.kind == "prose" else _TEXT for one in columns]
    heads = zip(columns, styles, strict=True)
    head = "".join(
        f'<th style="{style}" title="{_MEANINGS.get(one.title, "")}">{one.title}</th>' for one, style in heads
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{style}">{escape(cell.text)}</td>' for cell, style in zip(row, styles, strict=True))
        + "</tr>"
        for row in zip(*(one.cells for one in columns), strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _known(values: Any) -> tuple[float | None, ...]:
    return tuple(None if isnan(value) else value for value in values.tolist())


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingLibraryError("A DataFrame needs pandas: pip install pandas.") from error
    return pd
