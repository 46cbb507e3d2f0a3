"""What was decided on the number of replicas, as a table that says why, a figure, and a record to be replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Any, overload

from mlnb.durations import duration_text
from mlnb.errors import MissingLibraryError
from mlnb.monitoring.numerals import NONE, duration, figure, milliseconds, percent
from mlnb.registry.tables import Cell, Column, format_time, lay_out
from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.decision import ScalingDecision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from mlnb.monitoring.scaling_picture import ScalingPicture
    from mlnb.scaling.policies.decision import ScalingPolicy, ScalingSample

__all__ = ["ScalingHistory"]

_LINES, _ROWS = 20, 60  # of a table as text and as HTML
_WIDE = 120  # characters of a line
_BRIEF = 2.0  # seconds that a reason must have held to have a row
_DIGITS = str.maketrans("", "", "0123456789.,")  # in which reasons differ that say the same
_MEASURES: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("utilisation", percent),
    ("cpu", lambda value: f"{figure(value)} %"),
    ("wait", lambda value: milliseconds(1e3 * value)),
    ("requests/s", lambda value: f"{figure(value)}/s"),
)
_MUTED = "color: var(--jp-content-font-color2, #767676)"
_TEXT = "text-align: left; white-space: nowrap"
_NUMBER = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"
_PROSE = "text-align: left; white-space: normal; min-width: 16em"
_STYLES = {"text": _TEXT, "number": _NUMBER, "prose": _PROSE}


@dataclass(slots=True)
class _Row:
    """A change, or decisions between two changes that kept the number of replicas for the same reason."""

    decision: ScalingDecision  # the change, or the last one that kept it
    begin: ScalingSample
    before: int | None = None  # replicas, of a change
    held: float = 0.0  # seconds
    spells: int = 0

    @property
    def desired(self) -> str:
        return str(self.decision.desired) if self.before is None else f"{self.before} → {self.decision.desired}"

    @property
    def reason(self) -> str:
        if self.before is not None:
            return self.decision.reason
        times = f" in {self.spells} spells" if self.spells > 1 else ""
        return f"held {_lasted(self.held)}{times}: {self.decision.reason}"


@dataclass(frozen=True, slots=True, repr=False)
class ScalingHistory(Sequence[ScalingDecision]):
    """The decisions on the replicas of one deployment, oldest first; what changed shows as a table.

    Attributes
    ----------
    decisions : tuple of ScalingDecision
    name : str
        Of the deployment.
    autoscale : Autoscale
        Bounds and rule; those that hold last, where they were changed meanwhile.
    replayed : bool
        Whether nothing of this was applied: see :meth:`replay`.
    ended : bool
        Whether the rule holds no more: the number of replicas does not follow the load any longer.

    Examples
    --------
    >>> history = ScalingHistory((), name="iris", autoscale=Autoscale.of(1, 4))
    >>> history
    iris: nothing decided yet, 1 to 4 replicas, utilisation at 70%
    >>> len(history), history.changes
    (0, ())
    """

    decisions: tuple[ScalingDecision, ...]
    name: str = field(kw_only=True)
    autoscale: Autoscale = field(kw_only=True)
    replayed: bool = field(default=False, kw_only=True)
    ended: bool = field(default=False, kw_only=True)

    def __len__(self) -> int:
        return len(self.decisions)

    @overload
    def __getitem__(self, index: int) -> ScalingDecision: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ScalingDecision, ...]: ...
    def __getitem__(self, index: int | slice) -> ScalingDecision | tuple[ScalingDecision, ...]:
        return self.decisions[index]

    def __iter__(self) -> Iterator[ScalingDecision]:
        return iter(self.decisions)

    @property
    def changes(self) -> tuple[ScalingDecision, ...]:
        """The decisions that changed the number of replicas."""
        return tuple(
            one for before, one in zip(self._before(), self.decisions, strict=True) if self._changes(one, before)
        )

    @property
    def words(self) -> str:
        """What happened, in a line."""
        if not self.decisions:
            return f"{self.name}: nothing decided yet, {self.autoscale.words}"
        first, last, rule = self.decisions[0], self.decisions[-1], self.autoscale
        bounds = f"{rule.least} to {rule.most}" if rule.least < rule.most else f"{rule.least}"
        asked = rule.words.partition(", ")[2]  # beside the bounds
        changes = _counted(len(self.changes), "change")
        lasted = _lasted(max(0.0, last.sample.at - first.sample.at + last.sample.interval))
        would = "replayed, would want " if self.replayed else ""
        when = "at the end" if self.replayed else "when that ended" if self.ended else "now"
        return (
            f"{self.name}: {would}{_counted(last.desired, 'replica')} {when}, "
            f"{bounds} by load ({asked}); {changes} in {lasted}"
        )

    def frame(self, *, every: bool = False) -> pd.DataFrame:
        """Return the table as a DataFrame.

        Parameters
        ----------
        every : bool
            Every decision for itself. Without it, those that kept the number of replicas for the same reason between
            two changes are one row: the last of them, with ``held``, how long it was kept so. What held for less
            than two seconds is left out.

        Returns
        -------
        pandas.DataFrame
            Of what is measured in time, ``value`` and ``target`` are seconds, as are ``window`` and ``held``.

        Raises
        ------
        MissingLibraryError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingLibraryError("The frame needs pandas: pip install pandas.") from error
        rows = [_Row(one, one.sample) for one in self.decisions] if every else self._rows()
        names = ["metric", "value", "target", "rule", "window", "wanted", "desired", "applied"]
        values = [
            [
                row.begin.wall,
                *(getattr(row.decision, name) for name in names),
                row.decision.reason if every else row.reason,
            ]
            for row in rows
        ]
        table = pd.DataFrame(values, columns=["time", *names, "reason"])
        table["time"] = pd.to_datetime(table["time"], unit="s", utc=True)
        return table if every else table.assign(held=[row.held for row in rows])

    def picture(self) -> ScalingPicture:
        """Return the columns that :meth:`figure` draws."""
        from mlnb.monitoring.scaling_picture import ScalingPicture
        from mlnb.scaling.policies.latency import LatencyObjective

        samples, policy = [one.sample for one in self.decisions], self.autoscale.policy
        drawn = isinstance(policy, LatencyObjective) and policy.quantile == 0.95  # noqa: PLR2004 - p95 is what is drawn
        return ScalingPicture(
            name=self.name,
            at=tuple(sample.wall for sample in samples),
            rate=tuple(map(_rate, samples)),
            capacity=tuple(map(_capacity, samples)),
            ready=tuple(sample.ready for sample in samples),
            desired=tuple(one.desired for one in self.decisions),
            p95=tuple(None if sample.p95 is None else 1e3 * sample.p95 for sample in samples),
            objective=1e3 * policy.seconds if drawn and isinstance(policy, LatencyObjective) else None,
            changes=tuple((one.sample.wall, one.desired, one.reason) for one in self.changes),
        )

    def figure(self) -> Any:
        """Draw load, capacity, replicas and p95 over time; each change says why when the pointer rests on it.

        Returns
        -------
        plotly.graph_objects.Figure

        Raises
        ------
        MissingLibraryError
            If plotly is not installed.
        """
        from mlnb.monitoring.figures_scaling import scaling_figure

        return scaling_figure(self.picture())

    def replay(self, policy: ScalingPolicy | Autoscale | str) -> ScalingHistory:
        """Return what another policy would have decided on the same samples.

        The loop is open: samples are what the replicas of then did, so that more or fewer of them change nothing in
        the samples that follow. What would have happened is for :func:`mlnb.simulate` to say. The policy that
        decided then, replayed from its first sample and with none left out, gives the very same decisions.

        Parameters
        ----------
        policy : ScalingPolicy, Autoscale or str
            A policy, or the name of one as :meth:`~mlnb.scaling.autoscale.Autoscale.of` takes it, within the bounds
            of this history; or other bounds as well.

        Returns
        -------
        ScalingHistory
            None of whose decisions was applied.

        Raises
        ------
        InvalidInputError
            If it is no policy.
        """
        from mlnb.scaling.policies.bounded import BoundedController

        chosen = policy
        if not isinstance(chosen, Autoscale):
            chosen = replace(self.autoscale, policy=Autoscale.of(1, 1, policy=chosen).policy)
        controller = BoundedController(chosen)
        decisions = tuple(controller.step(one.sample) for one in self.decisions)
        return replace(self, decisions=decisions, autoscale=chosen, replayed=True)

    def __repr__(self) -> str:
        rows = self._rows()
        shown = rows[-_LINES:]
        lines = [self.words, *self._more(rows, shown)]
        return "\n".join([*lines, lay_out(_narrow(_columns(shown)), width=_WIDE)] if shown else lines)

    def _repr_html_(self) -> str:
        rows = self._rows()
        shown = rows[-_ROWS:]
        words = f"<p>{escape(self.words)}</p>"
        return words + "".join(
            [f'<p style="{_MUTED}">{escape(words)}</p>' for words in self._more(rows, shown)]
            + ([_html(_columns(shown), shown)] if shown else [])
        )

    def _changes(self, decision: ScalingDecision, before: int) -> bool:
        # What a replayed policy leaves as it was changes with what was recorded, which is none of its doing.
        return decision.desired != before and not (self.replayed and decision.desired == decision.sample.desired)

    def _before(self) -> list[int]:
        """Return how many replicas were wanted before each decision."""
        return [one.sample.desired for one in self.decisions[:1]] + [one.desired for one in self.decisions[:-1]]

    def _rows(self) -> list[_Row]:
        """Return the changes, and between two of them a row for each reason to keep what there was, and the newest."""
        rows: list[_Row] = []
        held: dict[tuple[str, str], _Row] = {}
        last: _Row | None = None
        for before, one, lasts in zip(self._before(), self.decisions, self._lasted(), strict=True):
            if self._changes(one, before):
                rows.append(_Row(one, one.sample, before))
                held, last = {}, None
                continue
            key = one.rule, one.reason.translate(_DIGITS)
            row = held.get(key)
            if row is None:
                row = held[key] = _Row(one, one.sample)
                rows.append(row)
            row.decision, row.held, row.spells = one, row.held + lasts, row.spells + (row is not last)
            last = row
        return [row for row in rows if row.before is not None or row.held >= _BRIEF or row is rows[-1]]

    def _lasted(self) -> list[float]:
        """Return how many seconds there were from each decision to the next one."""
        at = [one.sample.at for one in self.decisions]
        ends = [*at[1:], *(one.sample.at + one.sample.interval for one in self.decisions[-1:])]
        return [max(0.0, end - begin) for begin, end in zip(at, ends, strict=True)]

    def _more(self, rows: list[_Row], shown: list[_Row]) -> list[str]:
        left = len(rows) - len(shown)
        return [f"… {_counted(left, 'earlier row')}: .frame()"] if left else []


def _columns(rows: list[_Row]) -> list[Column]:
    decisions = [row.decision for row in rows]
    return [
        Column("time", tuple(map(Cell, _times([row.begin.wall for row in rows])))),
        Column("metric", tuple(Cell(one.metric) for one in decisions), least=8),
        Column("value", tuple(Cell(_measure(one.metric, one.value)) for one in decisions), kind="number"),
        Column("target", tuple(Cell(_measure(one.metric, one.target)) for one in decisions), kind="number"),
        Column("rule", tuple(Cell(one.rule) for one in decisions), least=8),
        Column("window", tuple(Cell(_window(one.window)) for one in decisions), kind="number"),
        Column("desired", tuple(Cell(row.desired) for row in rows), kind="number"),
        Column(
            "applied", tuple(Cell(NONE if one.applied is None else str(one.applied)) for one in decisions),
            kind="number",
        ),
        Column("reason", tuple(Cell(row.reason) for row in rows), kind="prose", least=24),
    ]  # fmt: skip


def _narrow(columns: list[Column]) -> list[Column]:
    """Leave out what a line of text has no room for: the window, and a metric that is the only one heads its values."""
    metrics = {cell.text for cell in columns[1].cells}
    if len(metrics) > 1:
        return [one for one in columns if one.title != "window"]
    value = replace(columns[2], title=metrics.pop() or "value")
    return [columns[0], value, *(one for one in columns[3:] if one.title != "window")]


def _html(columns: list[Column], rows: list[_Row]) -> str:
    head = "".join(f'<th style="{_STYLES[one.kind]}">{one.title}</th>' for one in columns)
    body = "".join(
        f'<tr style="{_MUTED if row.before is None else ""}">'
        + "".join(
            f'<td style="{_STYLES[one.kind]}">{escape(cell.text)}</td>'
            for one, cell in zip(columns, cells, strict=True)
        )
        + "</tr>"
        for row, cells in zip(rows, zip(*(one.cells for one in columns), strict=True), strict=True)
    )
    return f'<table class="mlnb-scaling-history"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _times(walls: list[float]) -> list[str]:
    """Write moments in this machine's time zone, the day only where there are several."""
    texts = [format_time(datetime.fromtimestamp(wall, UTC)) for wall in walls]
    several = len({text.split(" ")[0] for text in texts}) > 1
    return texts if several else [text.split(" ")[1] for text in texts]


def _measure(metric: str, value: float | None) -> str:
    if value is None or not isfinite(value):
        return NONE
    named = metric.lower()
    return next((write for part, write in _MEASURES if part in named), figure)(value)


def _window(seconds: float) -> str:
    return duration_text(seconds) if seconds > 0 else ""


def _lasted(seconds: float) -> str:
    return duration(round(seconds)) if seconds >= 1 else f"{seconds:.1f} s"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _rate(sample: ScalingSample) -> float | None:
    return None if sample.requests is None or not sample.interval > 0 else sample.requests / sample.interval


def _capacity(sample: ScalingSample) -> float | None:
    return None if sample.service is None else sample.ready * sample.service.capacity
