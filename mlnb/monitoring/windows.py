"""Counts over time in fixed memory: a second, a minute or all time of one deployment."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.monitoring.metrics import KINDS, Answers, Part, Spread, WindowMetrics, kind_of
from mlnb.monitoring.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlnb.events import PredictionEvent

__all__ = [
    "AnswerTally", "Cell", "Cells", "Known", "Tick", "cell_of", "combined", "key_of", "merged", "tick_of", "together",
    "window_of",
]  # fmt: skip

OTHERS = "others"
MOST_CLASSES = 50
MOST_VERSIONS, MOST_PARTS, MOST_REPLICAS = 32, 64, 16  # of all versions together, and of each
_LONGEST = 64  # characters of a class's name
_REST = -1  # the replica of what is beyond
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_OK = 200
_PLAIN_KINDS = "Uiub"  # kinds of arrays in which nothing is missing, and that are counted as they are
_PLAIN = frozenset({str, int, float, bool})
_NO_VALUES = ("NAType", "NaTType")  # of pandas
_LEAST_TIME = 1e-9  # seconds; a queue that nobody waited in

Values = np.ndarray[Any, Any]
Known = frozenset[Any] | None  # classes that there are, as they are counted
Cells = dict[tuple[int, int], "Cell"]  # by version and replica, the one with the newest requests last


@dataclass(slots=True)
class AnswerTally:
    """What rows were answered with: classes are counted, numbers are sketched.

    A class is counted by name if its name is at most 64 characters long and, where the classes are known, if it is one
    of them; all else is counted together as "others".
    """

    classes: Counter[Any] = field(default_factory=Counter)
    numbers: Sketch = field(default_factory=Sketch)
    missing: int = 0

    @classmethod
    def sum(cls, tallies: Iterable[AnswerTally]) -> AnswerTally:
        """Return a new one that has counted what all of them have."""
        parts = list(tallies)
        whole = cls(numbers=Sketch.sum(one.numbers for one in parts), missing=sum(one.missing for one in parts))
        for one in parts:
            for label, count in one.classes.items():
                whole.classes[label] += count
        whole._limit()
        return whole

    def count(self, predictions: Sequence[Values], *, numbers: bool | None, known: Known = None) -> None:
        """Count answers; only those of one column count.

        Parameters
        ----------
        predictions : sequence of ndarray
        numbers : bool or None
            Whether they are numbers; None: their dtype says it.
        known : frozenset, optional
            The classes that there are; see :func:`key_of`.
        """
        if len({prediction.dtype for prediction in predictions}) == 1:
            with suppress(ValueError):  # of several shapes
                predictions = [np.concatenate(predictions)]  # the answers of a batch: a tenth of the time
        for prediction in predictions:
            if prediction.ndim == 1:
                self._count(prediction, numbers=numbers, known=known)

    def merge(self, other: AnswerTally) -> None:
        """Count what another one has counted."""
        self.classes.update(other.classes)
        self.numbers.merge(other.numbers)
        self.missing += other.missing
        self._limit()

    def value(self, version: int, *, known: Known = None) -> Answers:
        """Return it as a value; ``known`` are the classes that there are."""
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
            numbers=numbers or None, named=all(_is_public(label, known) for label in self.classes),
        )  # fmt: skip

    def _count(self, prediction: Values, *, numbers: bool | None, known: Known) -> None:
        kind = prediction.dtype.kind
        if (kind == "f") if numbers is None else (numbers and kind in "fiub"):
            self.numbers.add(prediction.tolist())
            return
        labels = prediction.tolist()
        if kind not in _PLAIN_KINDS:
            found = _keys(labels)
            self.missing += len(labels) - len(found)
            labels = found
        before = len(self.classes)
        self.classes.update(labels)
        if len(self.classes) > before:
            self._fold(known)

    def _fold(self, known: Known) -> None:
        """Count classes that are not to be counted by name among the others."""
        strangers = [label for label in self.classes if not _has_name(label, known)]
        for label in strangers:
            self.classes[OTHERS] += self.classes.pop(label)
        self._limit()

    def _limit(self) -> None:
        if len(self.classes) <= MOST_CLASSES:
            return
        everything, others = self.classes.total(), self.classes.pop(OTHERS, 0)
        if len(self.classes) > MOST_CLASSES:
            self.classes = Counter(dict(self.classes.most_common(MOST_CLASSES)))
        others = everything - self.classes.total()
        if others:
            self.classes[OTHERS] = others


def key_of(label: Any) -> Any:
    """Return by what an answer is counted: itself, or its name; None if there is no answer.

    Examples
    --------
    >>> from datetime import date
    >>> key_of("a"), key_of(2), key_of(date(2020, 1, 1)), key_of(float("nan")), key_of(["a", "list"])
    ('a', 2, '2020-01-01', None, 'others')
    """
    if isinstance(label, np.generic):
        label = label.item()
    if label is None or type(label).__name__ in _NO_VALUES:
        return None
    try:
        if label != label:  # NaN  # noqa: PLR0124
            return None
        if type(label) in _PLAIN:
            return label
        hash(label)
        return OTHERS if hasattr(label, "__len__") and len(label) > _LONGEST else str(label)
    except Exception:  # noqa: BLE001 - a model's own objects may raise anything
        return OTHERS


def _keys(labels: list[Any]) -> list[Any]:
    """Return by what answers are counted, without those that are missing."""
    if _PLAIN.issuperset(map(type, labels)):
        return [label for label in labels if label == label]  # noqa: PLR0124 - NaN
    return [key for key in map(key_of, labels) if key is not None]


def _has_name(label: Any, known: Known) -> bool:
    if label == OTHERS:
        return True
    if known is not None:
        return label in known or str(label) in known
    if isinstance(label, int):
        return label.bit_length() <= _LONGEST * 3
    return not isinstance(label, str) or len(label) <= _LONGEST


def _is_public(label: Any, known: Known) -> bool:
    """Say whether a class is a number or one that there is, so that its name tells nobody's answer."""
    return label == OTHERS or not isinstance(label, str) or (known is not None and label in known)


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

    def count(
        self, events: Sequence[PredictionEvent], *, numbers: bool | None, known: Known = None
    ) -> list[PredictionEvent]:
        """Count requests; return those that failed. How answers are counted says :meth:`AnswerTally.count`."""
        self.requests += len(events)
        good = [event for event in events if event.error is None]
        failed = [] if len(good) == len(events) else [event for event in events if event.error is not None]
        self.errors += len(failed)
        self.statuses.update([event.status for event in failed])
        if good:
            self._count_good(good, numbers=numbers, known=known)
        return failed

    def _count_good(self, good: Sequence[PredictionEvent], *, numbers: bool | None, known: Known) -> None:
        self.statuses[_OK] += len(good)
        self.rows += sum([event.rows for event in good])
        self.latency.add_positive([event.seconds or _LEAST_TIME for event in good])
        self.waited.add_positive([event.waited or _LEAST_TIME for event in good])
        for rows, count in Counter([event.batch for event in good]).items():
            self.batch.add_repeated(rows or 1, count)
        predictions = [event.prediction for event in good if event.prediction is not None]
        self.answers.count(predictions, numbers=numbers, known=known)

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


class _Gathered(list["Cell"]):
    """Cells that are one part of a window."""

    merge = list.extend


def cell_of(cells: Cells, key: tuple[int, int]) -> Cell:
    """Return the cell of a version and replica, which is made, and room for it.

    By number there are at most 64 replicas, and of each version the 16 newest; what was counted of others is of that
    version all the same, as replica -1. There are at most 32 versions: what was counted of those that had no requests
    for the longest time is of version 0, replica -1.
    """
    cell: Cell = _part(cells, key, Cell)
    return cell


def merged(cells: Cells, others: Mapping[tuple[int, int], Cell]) -> None:
    """Add cells to others."""
    for key, cell in others.items():
        if key in cells:
            cells[key] = cells.pop(key)  # the newest is the last
        cell_of(cells, key).merge(cell)


def together(cells: Iterable[Cell]) -> Cell:
    """Return the sum of cells, as a new one."""
    parts = list(cells)
    return Cell(
        requests=sum(one.requests for one in parts), errors=sum(one.errors for one in parts),
        rows=sum(one.rows for one in parts), statuses=_statuses(parts),
        latency=Sketch.sum(one.latency for one in parts), waited=Sketch.sum(one.waited for one in parts),
        batch=Sketch.sum(one.batch for one in parts), answers=AnswerTally.sum(one.answers for one in parts),
    )  # fmt: skip


def combined(steps: Iterable[Cells]) -> Cells:
    """Return the sum of steps, oldest first, as new cells."""
    return {key: together(cells) for key, cells in _gather(steps).items()}


def window_of(
    steps: Iterable[Cells], *, name: str, seconds: int | None, lasted: float, known: Known = None
) -> WindowMetrics:
    """Return what happened in a window, as a value.

    Parameters
    ----------
    steps : iterable of Cells
        Of the seconds or minutes that it has, oldest first.
    name : str
    seconds : int or None
    lasted : float
        Seconds of it that are over, for the rate.
    known : frozenset, optional
        The classes that there are.
    """
    gathered = _gather(steps)
    latencies = {key: Sketch.sum(cell.latency for cell in cells) for key, cells in gathered.items()}
    every = list(chain.from_iterable(gathered.values()))
    parts = tuple(_part_of(key, gathered[key], latencies[key]) for key in sorted(gathered))
    requests = sum(part.requests for part in parts)
    return WindowMetrics(
        name=name, seconds=seconds, requests=requests, errors=sum(part.errors for part in parts),
        rows=sum(part.rows for part in parts), rate=requests / lasted if lasted > 0 else 0.0,
        statuses=dict(sorted(_statuses(every).items())), latency=_spread(Sketch.sum(latencies.values()), unit=1e3),
        waited=_spread(Sketch.sum(cell.waited for cell in every), unit=1e3),
        batch=_spread(Sketch.sum(cell.batch for cell in every)), parts=parts,
        answers=tuple(
            AnswerTally.sum(cell.answers for key, cells in gathered.items() if key[0] == version for cell in cells)
            .value(version, known=known)
            for version in sorted({version for version, _ in gathered})
        ),
    )  # fmt: skip


def _gather(steps: Iterable[Cells]) -> dict[tuple[int, int], _Gathered]:
    gathered: dict[tuple[int, int], _Gathered] = {}
    for cells in steps:
        for key, cell in cells.items():
            _part(gathered, key, _Gathered).append(cell)
    return gathered


def _part_of(key: tuple[int, int], cells: Sequence[Cell], latency: Sketch) -> Part:
    return Part(
        version=key[0], replica=key[1], requests=sum(cell.requests for cell in cells),
        errors=sum(cell.errors for cell in cells), rows=sum(cell.rows for cell in cells),
        statuses=dict(sorted(_statuses(cells).items())), latency=_spread(latency, unit=1e3),
    )  # fmt: skip


def _statuses(cells: Iterable[Cell]) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for cell in cells:
        for status, count in cell.statuses.items():
            statuses[status] += count
    return statuses


def _part(parts: dict[tuple[int, int], Any], key: tuple[int, int], make: Callable[[], Any]) -> Any:
    """Return a part, which is made if need be; see :func:`cell_of`."""
    part = parts.get(key)
    if part is None:
        key = _placed(parts, key, make)
        part = parts.setdefault(key, make())
    return part


def _placed(parts: dict[tuple[int, int], Any], key: tuple[int, int], make: Callable[[], Any]) -> tuple[int, int]:
    """Return as what a new part is counted, and make room for it."""
    version, replica = key
    versions = list(dict.fromkeys(one for one, _ in reversed(parts) if one))  # newest first
    if version and version not in versions and len(versions) >= MOST_VERSIONS:
        _fold([one for one in parts if one[0] == versions[-1]], (0, _REST), parts, make)
    if replica <= 0:
        return key
    own = sorted(one for one in parts if one[0] == version and one[1] > 0)
    if len(own) >= MOST_REPLICAS:
        if key < own[0]:
            return version, _REST
        _fold(own[:1], (version, _REST), parts, make)
    numbered = [one for one in parts if one[1] >= 0]
    if len(numbered) >= MOST_PARTS:
        _fold(numbered[:1], (numbered[0][0], _REST), parts, make)
    return key


def _fold(
    keys: Iterable[tuple[int, int]], into: tuple[int, int], parts: dict[tuple[int, int], Any], make: Callable[[], Any]
) -> None:
    """Count parts as another one."""
    for key in keys:
        part = parts.pop(key)
        parts.setdefault(into, make()).merge(part)


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
    kinds = dict.fromkeys(KINDS, 0)
    for status, count in _statuses(cells.values()).items():
        if kind := kind_of(status):
            kinds[kind] += count
    latency = Sketch.sum(cell.latency for cell in cells.values()).quantiles(0.5, 0.95, 0.99)
    answers = AnswerTally.sum(cell.answers for cell in cells.values())
    return Tick(
        requests=sum(cell.requests for cell in cells.values()), errors=sum(cell.errors for cell in cells.values()),
        kinds=tuple(kinds.values()), latency=tuple(None if value is None else value * 1e3 for value in latency),
        classes=tuple((str(label), count) for label, count in answers.classes.most_common(_SHOWN_CLASSES)),
        numbers=answers.numbers.quantiles(0.05, 0.5, 0.95),
    )  # fmt: skip


def _spread(sketch: Sketch, *, unit: float = 1.0) -> Spread:
    p50, p95, p99 = (None if value is None else value * unit for value in sketch.quantiles(0.5, 0.95, 0.99))
    largest = sketch.largest * unit if sketch.count else None
    mean = None if sketch.mean is None else sketch.mean * unit
    return Spread(count=sketch.count, p50=p50, p95=p95, p99=p99, largest=largest, mean=mean)
