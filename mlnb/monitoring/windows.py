"""Counts over time in fixed memory: a second, a minute or all time of one deployment."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.monitoring.metrics import KINDS, Answers, Part, Spread, WindowMetrics, kind_of
from mlnb.monitoring.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlnb.events import PredictionEvent

__all__ = ["AnswerTally", "Cell", "Cells", "Tick", "cell_of", "merged", "tick_of", "together", "window_of"]

OTHERS = "others"
MOST_CLASSES = 50
MOST_PARTS = 64
_REST = -1  # the replica of what is beyond
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_OK = 200
_MAY_LACK = "fcOmM"  # kinds of arrays in which something may be missing
_LEAST_TIME = 1e-9  # seconds; a queue that nobody waited in

Cells = dict[tuple[int, int], "Cell"]  # by version and replica


@dataclass(slots=True)
class AnswerTally:
    """What rows were answered with: classes are counted, numbers are sketched."""

    classes: Counter[Any] = field(default_factory=Counter)
    numbers: Sketch = field(default_factory=Sketch)
    missing: int = 0

    def count(self, predictions: Sequence[np.ndarray[Any, Any]], *, numbers: bool | None) -> None:
        """Count answers; ``numbers`` says whether they are, None: their dtype does. Only those of one column count."""
        if len({prediction.dtype for prediction in predictions}) == 1:
            with suppress(ValueError):  # of several shapes
                predictions = [np.concatenate(predictions)]  # the answers of a batch: a tenth of the time
        for prediction in predictions:
            if prediction.ndim == 1:
                self._count(prediction, numbers=numbers)

    def merge(self, other: AnswerTally) -> None:
        """Count what another one has counted."""
        self.classes.update(other.classes)
        self.numbers.merge(other.numbers)
        self.missing += other.missing
        self._bound()

    def value(self, version: int) -> Answers:
        """Return it as a value."""
        named: Counter[str] = Counter()
        for label, count in self.classes.items():
            named[str(label)] += count
        others = named.pop(OTHERS, 0)
        classes = dict(named.most_common()) | ({OTHERS: others} if others else {})
        sketch = self.numbers
        numbers = tuple(value for value in sketch.quantiles(*_QUANTILES) if value is not None)
        missing = self.missing + sketch.missing
        return Answers(
            version=version, count=sketch.count + missing + named.total() + others, missing=missing, classes=classes,
            numbers=numbers or None,
        )  # fmt: skip

    def _count(self, prediction: np.ndarray[Any, Any], *, numbers: bool | None) -> None:
        kind = prediction.dtype.kind
        if (kind == "f") if numbers is None else (numbers and kind in "fiub"):
            self.numbers.add(prediction.tolist())
            return
        known = labels = prediction.tolist()
        if kind in _MAY_LACK:
            known = [label for label in labels if label is not None and label == label]  # noqa: PLR0124 - NaN
            self.missing += len(labels) - len(known)
        try:
            self.classes.update(known)
        except TypeError:  # lists, perhaps
            self.classes[OTHERS] += len(known)
        self._bound()

    def _bound(self) -> None:
        if len(self.classes) > MOST_CLASSES + 1:
            kept = Counter(dict(self.classes.most_common(MOST_CLASSES)))
            kept[OTHERS] += self.classes.total() - kept.total()
            self.classes = kept


@dataclass(slots=True)
class Cell:
    """What one replica of one version did in some time.

    The waiting and the latency are in seconds.
    """

    requests: int = 0
    errors: int = 0
    rows: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latency: Sketch = field(default_factory=Sketch)
    waited: Sketch = field(default_factory=Sketch)
    batch: Sketch = field(default_factory=Sketch)
    answers: AnswerTally = field(default_factory=AnswerTally)

    def count(self, events: Sequence[PredictionEvent], *, numbers: bool | None) -> list[PredictionEvent]:
        """Count requests; return those that failed."""
        self.requests += len(events)
        good = [event for event in events if event.error is None]
        failed = [] if len(good) == len(events) else [event for event in events if event.error is not None]
        self.errors += len(failed)
        self.statuses.update([event.status for event in failed])
        if good:
            self._count_good(good, numbers=numbers)
        return failed

    def _count_good(self, good: Sequence[PredictionEvent], *, numbers: bool | None) -> None:
        self.statuses[_OK] += len(good)
        self.rows += sum([event.rows for event in good])
        self.latency.add_positive([event.seconds or _LEAST_TIME for event in good])
        self.waited.add_positive([event.waited or _LEAST_TIME for event in good])
        for rows, count in Counter([event.batch for event in good]).items():
            self.batch.add_repeated(rows or 1, count)
        self.answers.count([event.prediction for event in good if event.prediction is not None], numbers=numbers)

    def merge(self, other: Cell) -> None:
        """Count what another one has counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.rows += other.rows
        self.statuses.update(other.statuses)
        self.latency.merge(other.latency)
        self.waited.merge(other.waited)
        self.batch.merge(other.batch)
        self.answers.merge(other.answers)


def cell_of(cells: Cells, key: tuple[int, int]) -> Cell:
    """Return the cell of a version and replica, which is made if there is room: at most 64 of them."""
    cell = cells.get(key)
    if cell is None:
        if len(cells) >= MOST_PARTS:
            key = (0, _REST)
        cell = cells.setdefault(key, Cell())
    return cell


def merged(cells: Cells, others: Mapping[tuple[int, int], Cell]) -> None:
    """Add cells to others."""
    for key, cell in others.items():
        cell_of(cells, key).merge(cell)


def together(cells: Iterable[Cell]) -> Cell:
    """Return the sum of cells."""
    whole = Cell()
    for cell in cells:
        whole.merge(cell)
    return whole


def window_of(cells: Cells, *, name: str, seconds: int | None, lasted: float) -> WindowMetrics:
    """Return what happened in a window, as a value.

    Parameters
    ----------
    cells : Cells
    name : str
    seconds : int or None
    lasted : float
        Seconds of it that are over, for the rate.
    """
    whole = together(cells.values())
    versions: dict[int, AnswerTally] = {}
    for (version, _), cell in cells.items():
        versions.setdefault(version, AnswerTally()).merge(cell.answers)
    parts = tuple(
        Part(
            version=version, replica=replica, requests=cell.requests, errors=cell.errors, rows=cell.rows,
            statuses=dict(sorted(cell.statuses.items())), latency=_spread(cell.latency, unit=1e3),
        )
        for (version, replica), cell in sorted(cells.items())
    )  # fmt: skip
    return WindowMetrics(
        name=name, seconds=seconds, requests=whole.requests, errors=whole.errors, rows=whole.rows,
        rate=whole.requests / lasted if lasted > 0 else 0.0, statuses=dict(sorted(whole.statuses.items())),
        latency=_spread(whole.latency, unit=1e3), waited=_spread(whole.waited, unit=1e3), batch=_spread(whole.batch),
        parts=parts, answers=tuple(tally.value(version) for version, tally in sorted(versions.items())),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One step of a series, in a few numbers.

    Attributes
    ----------
    requests, errors : int
    kinds : tuple of int
        Errors, in the order of :data:`~mlnb.monitoring.metrics.KINDS`.
    latency : tuple of float or None
        p50, p95 and p99 in milliseconds.
    classes : tuple of (str, int)
        The most frequent ones.
    numbers : tuple of float or None
        5, 50 and 95 % quantiles of the answers.
    """

    requests: int = 0
    errors: int = 0
    kinds: tuple[int, ...] = (0,) * len(KINDS)
    latency: tuple[float | None, ...] = (None, None, None)
    classes: tuple[tuple[str, int], ...] = ()
    numbers: tuple[float | None, ...] = (None, None, None)


_SHOWN_CLASSES = 8


def tick_of(cells: Cells) -> Tick:
    """Return a step of the series."""
    whole = together(cells.values())
    kinds = dict.fromkeys(KINDS, 0)
    for status, count in whole.statuses.items():
        if kind := kind_of(status):
            kinds[kind] += count
    latency = tuple(None if value is None else value * 1e3 for value in whole.latency.quantiles(0.5, 0.95, 0.99))
    return Tick(
        requests=whole.requests, errors=whole.errors, kinds=tuple(kinds.values()), latency=latency,
        classes=tuple((str(label), count) for label, count in whole.answers.classes.most_common(_SHOWN_CLASSES)),
        numbers=whole.answers.numbers.quantiles(0.05, 0.5, 0.95),
    )  # fmt: skip


def _spread(sketch: Sketch, *, unit: float = 1.0) -> Spread:
    p50, p95, p99 = (None if value is None else value * unit for value in sketch.quantiles(0.5, 0.95, 0.99))
    largest = sketch.largest * unit if sketch.count else None
    mean = None if sketch.mean is None else sketch.mean * unit
    return Spread(count=sketch.count, p50=p50, p95=p95, p99=p99, largest=largest, mean=mean)
