"""The newest rows that each version answered, kept in fixed memory for drift."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.monitoring.recent import answers_in, values_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.events import PredictionEvent

__all__ = ["RowSample", "SampledRows"]

Values = np.ndarray[Any, Any]

_VERSIONS = 8
_SUCCESS = 300  # statuses below it are good answers


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRows:
    """Rows of one version as they came, newest request first.

    Attributes
    ----------
    version : int
    rows : int
    since, until : float or None
        When the oldest and the newest of them were answered, seconds since the epoch; None without rows.
    inputs : tuple
        Of each request: a list of rows, an ndarray or a table.
    predictions : tuple of ndarray or None
        Of each request, ``(n, ...)``.
    """

    version: int
    rows: int
    since: float | None
    until: float | None
    inputs: tuple[Any, ...]
    predictions: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Request:
    at: float
    rows: int
    values: int
    inputs: Any
    prediction: Any


@dataclass(slots=True)
class _Kept:
    """The newest rows of one version.

    From ``closed`` until ``opens`` no more are taken.
    """

    requests: deque[_Request] = field(default_factory=deque)
    rows: int = 0
    values: int = 0
    second: int = -1
    taken: int = 0
    closed: float = 0.0
    opens: float = 0.0


class RowSample:
    """Keeps the newest good answers with their rows, version by version; used on one thread only.

    Until a version has ``rows`` of them all are kept; from then on at most ``per_second``, so that a burst does not
    push out what came before, and a busy server spends nothing on what is forgotten at once. The last request of a
    second is taken whole, and so is the oldest request that is kept. Rows are kept as they came; nothing is converted.

    Parameters
    ----------
    rows : int
        Of each version.
    per_second : int
        Rows taken of each version in one second of the events' own time.
    values : int
        Of all versions together.
    """

    def __init__(self, rows: int = 2_000, *, per_second: int = 500, values: int = 500_000) -> None:
        self._rows, self._per_second, self._values = rows, per_second, values
        self._versions: dict[int, _Kept] = {}

    @property
    def versions(self) -> tuple[int, ...]:
        """Those that have rows."""
        return tuple(self._versions)

    @property
    def cells(self) -> int:
        """Values that are kept, of all versions."""
        return sum(kept.values for kept in self._versions.values())

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Keep rows of the requests of one loop turn that were answered well."""
        versions = self._versions
        for event in events:
            kept = versions.get(event.version)
            if kept is not None and kept.closed <= event.at < kept.opens:
                continue
            if event.inputs is not None and event.prediction is not None and event.status < _SUCCESS:
                self._keep(event, event.prediction, self._opened(event.version) if kept is None else kept)

    def rows(self, version: int, most: int = 1_000) -> SampledRows:
        """Return the newest requests of a version that have ``most`` rows together, or all if they have fewer."""
        chosen: list[_Request] = []
        count = 0
        kept = self._versions.get(version, _Kept())
        for request in reversed(kept.requests):
            if count >= most:
                break
            chosen.append(request)
            count += request.rows
        return SampledRows(
            version=version, rows=count,
            since=chosen[-1].at if chosen else None, until=chosen[0].at if chosen else None,
            inputs=tuple(one.inputs for one in chosen), predictions=tuple(one.prediction for one in chosen),
        )  # fmt: skip

    def absorb(self, other: RowSample) -> None:
        """Put what another sample kept before what this one has; that one is not used any more."""
        for version, older in other._versions.items():
            kept = self._opened(version) if version not in self._versions else self._versions[version]
            kept.requests.extendleft(reversed(older.requests))
            kept.rows += older.rows
            kept.values += older.values
            if kept.requests:
                self._shorten(kept, to=self._rows)
        self._limit_values()

    def copy(self) -> RowSample:
        """Return what is kept now, which stays as it is while this one goes on."""
        other = RowSample(self._rows, per_second=self._per_second, values=self._values)
        other._versions = {
            version: replace(kept, requests=deque(kept.requests)) for version, kept in self._versions.items()
        }
        return other

    def _opened(self, version: int) -> _Kept:
        if len(self._versions) >= _VERSIONS:
            del self._versions[min(self._versions, key=self._last)]
        return self._versions.setdefault(version, _Kept())

    def _last(self, version: int) -> float:
        requests = self._versions[version].requests
        return requests[-1].at if requests else 0.0

    def _keep(self, event: PredictionEvent, prediction: Values, kept: _Kept) -> None:
        second = int(event.at)
        if second != kept.second:
            kept.second, kept.taken = second, 0
        request = self._request(event, prediction)
        if request is None:
            return
        kept.requests.append(request)
        kept.rows += request.rows
        kept.values += request.values
        kept.taken += request.rows
        if kept.rows > self._rows:
            if kept.taken >= self._per_second:
                kept.closed, kept.opens = second, second + 1
            self._shorten(kept, to=self._rows)
        self._limit_values()

    def _request(self, event: PredictionEvent, prediction: Values) -> _Request | None:
        """Return what is kept of a request: of a very long one rows evenly picked; None if it is too large."""
        inputs, rows = event.inputs, event.rows
        if rows > self._rows:
            step = -(-rows // self._rows)
            inputs, prediction = _thinned(inputs, step), np.array(prediction[::step])
            if inputs is None:
                return None
            rows = len(prediction)
        values = values_in(inputs) + answers_in(prediction)
        if values > self._values // 2:
            return None
        return _Request(event.at, rows, values, _own(inputs), _own(prediction))

    def _shorten(self, kept: _Kept, *, to: int) -> None:
        """Forget the oldest requests, but for those without which there would be fewer rows."""
        requests = kept.requests
        while kept.rows - requests[0].rows >= to:
            self._forget_oldest(kept)

    def _limit_values(self) -> None:
        while self.cells > self._values:
            self._forget_oldest(max(self._versions.values(), key=lambda kept: kept.values))

    @staticmethod
    def _forget_oldest(kept: _Kept) -> None:
        oldest = kept.requests.popleft()
        kept.rows -= oldest.rows
        kept.values -= oldest.values


def _own(values: Any) -> Any:
    """Return an array that keeps no larger one alive: that of its batch."""
    part = isinstance(values, np.ndarray) and values.base is not None
    return values.copy() if part and getattr(values.base, "nbytes", 0) > values.nbytes else values


def _thinned(inputs: Any, step: int) -> Any:
    """Return every ``step``-th row as a copy, None where the form is not known."""
    if isinstance(inputs, (list, tuple)):
        return inputs[::step]
    if isinstance(inputs, np.ndarray):
        return inputs[::step].copy()
    if hasattr(inputs, "iloc"):
        return inputs.iloc[::step].copy()
    if hasattr(inputs, "gather_every"):
        return inputs.gather_every(step)
    return inputs.take(np.arange(0, len(inputs), step)) if hasattr(inputs, "take") else None
