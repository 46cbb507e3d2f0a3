"""The newest labelled rows of one version, as columns of a fixed length."""

from __future__ import annotations

from hashlib import blake2b
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Array = np.ndarray[Any, Any]

__all__ = ["ROWS", "Note", "Rows", "fitting", "key_of"]

ROWS = 20_000  # that are kept
_VALUES = 1_000_000  # of their answers: fewer rows of long ones
_PROBABILITIES = 300_000  # values: those of fewer rows where there are many classes
_SETTLED = 1_000  # rows that wait to become columns


class Note(NamedTuple):
    """One labelled request.

    Attributes
    ----------
    at : float
        When the label came, seconds since the epoch.
    request_id : str
    truth : list of label, or ndarray of float, of shape (n, ...)
        A list for classes, an array for numbers.
    prediction : ndarray of shape (n, ...)
    probabilities : ndarray of shape (n, classes), or None
    """

    at: float
    request_id: str
    truth: Any
    prediction: Array
    probabilities: Array | None


class Rows:
    """The rows of one version: columns that are made anew when rows come, and so may be shared.

    Attributes
    ----------
    at : ndarray of shape (rows,)
    keys : ndarray of int64, of shape (rows,)
        Which request each is of; see :func:`key_of`.
    truth, prediction : ndarray of shape (rows, values)
        Of float for numbers, else of object.
    probabilities : ndarray of shape (m, classes), or None
        Of the last m rows; NaN where they are not known.
    numbers : bool
        Whether the labels are numbers.
    seen : int
        Rows that ever came.
    changes : int
        Grows with every change.
    """

    def __init__(self) -> None:
        self.new: list[Note] = []
        self.fresh = 0  # their rows
        self.seen = 0  # rows ever
        self.changes = 0
        self._begin((), numbers=False)

    def _begin(self, shape: tuple[int, ...], *, numbers: bool) -> None:
        """Forget all rows; from here on answers have another form."""
        self.shape, self.numbers = shape, numbers
        width = prod(shape)
        self.at: Array = np.empty(0)
        self.keys: Array = np.empty(0, dtype=np.int64)
        self.truth: Array = np.empty((0, width), dtype=float if numbers else object)
        self.prediction = self.truth
        self.probabilities: Array | None = None  # of the last rows
        self.waiting: dict[str, tuple[int, int]] = {}  # the first row and how many, by request id
        self.limit = max(1, min(ROWS, _VALUES // max(1, 2 * width)))

    def note(self, one: Note) -> None:
        """Keep the rows of one request."""
        shape, numbers = one.prediction.shape[1:], isinstance(one.truth, np.ndarray)
        if shape != self.shape or numbers != self.numbers:
            self.settle()
            self._begin(shape, numbers=numbers)
        self.new.append(one)
        self.fresh += len(one.prediction)
        if self.fresh >= _SETTLED:
            self.settle()

    def settle(self) -> None:
        """Make columns of what was noted."""
        if not self.new:
            return
        new, self.new, self.fresh = self.new, [], 0
        counts = [len(one.prediction) for one in new]
        self._await(new, counts)
        at = np.repeat([one.at for one in new], counts)
        keys = np.repeat([key_of(one.request_id) for one in new], counts)
        truth, prediction = self._columns(new, sum(counts))
        self._append(at, keys, truth, prediction, _probabilities(new, counts))

    def _columns(self, new: list[Note], rows: int) -> list[Array]:
        """Return true and answered values, each of shape (rows, values)."""
        parts: list[list[Any]] = [[one.truth for one in new], [one.prediction for one in new]]
        if self.numbers:
            return [np.concatenate(each).astype(float).reshape(rows, -1) for each in parts]
        parts[1] = [one.tolist() for one in parts[1]]
        flat = [chain.from_iterable(each) for each in parts]
        for _ in self.shape:
            flat = [chain.from_iterable(each) for each in flat]
        count = rows * prod(self.shape)
        same: dict[Any, Any] = {}  # equal values are one object, here and where they are pickled
        lists = [list(each) for each in flat]
        return [
            np.fromiter(map(same.setdefault, each, each), dtype=object, count=count).reshape(rows, -1) for each in lists
        ]

    def _append(self, at: Array, keys: Array, truth: Array, prediction: Array, probabilities: Array | None) -> None:
        self.seen += len(at)
        self.changes += 1
        self._append_probabilities(probabilities, len(at))
        both = (self.at, at), (self.keys, keys), (self.truth, truth), (self.prediction, prediction)
        self.at, self.keys, self.truth, self.prediction = (
            np.concatenate([old, added])[-self.limit :] for old, added in both
        )

    def _append_probabilities(self, probabilities: Array | None, rows: int) -> None:
        old = self.probabilities
        if old is None and probabilities is None:
            return
        width = probabilities.shape[1] if probabilities is not None else old.shape[1]  # type: ignore[union-attr]
        if old is None or old.shape[1] != width:
            old = np.full((len(self.at), width), np.nan)
        if probabilities is None:
            probabilities = np.full((rows, width), np.nan)
        self.probabilities = np.concatenate([old, probabilities])[-self._most(width) :]

    def _most(self, width: int) -> int:
        return max(1, min(self.limit, _PROBABILITIES // max(1, width)))

    # ---- labels that are corrected ----

    def correct(self, truths: Mapping[str, Sequence[Any] | Array]) -> None:
        """Put labels in the place of others, by request id, as far as the rows are still there."""
        self.settle()
        by_key = {
            key_of(request_id): truth
            for request_id, truth in truths.items()
            if isinstance(truth, np.ndarray) == self.numbers
        }
        places = np.flatnonzero(np.isin(self.keys, list(by_key)))
        found: dict[int, list[int]] = {}
        for place, key in zip(places.tolist(), self.keys[places].tolist(), strict=True):
            found.setdefault(key, []).append(place)
        truth = self.truth.copy()
        for key, those in found.items():
            rows = np.asarray(by_key[key], dtype=self.truth.dtype).reshape(len(by_key[key]), -1)[-len(those) :]
            if rows.shape[1] == truth.shape[1]:  # else another request of that id is there
                truth[those[-len(rows) :]] = rows
        self.truth = truth
        self.changes += 1

    # ---- probabilities that come later ----

    def _await(self, new: list[Note], counts: list[int]) -> None:
        first = self.seen
        for one, count in zip(new, counts, strict=True):
            if one.probabilities is None and one.request_id and not self.numbers:
                self.waiting[one.request_id] = (first, count)
            first += count
        gone = first - self.limit
        while self.waiting and self.waiting[oldest := next(iter(self.waiting))][0] < gone:
            del self.waiting[oldest]

    def waiting_ids(self) -> list[str]:
        """Return ids of requests without probabilities, newest first."""
        self.settle()
        return list(reversed(self.waiting))

    def add_probabilities(self, request_id: str, given: Array) -> bool:
        """Take probabilities that come later; return whether the rows are still there and they fit."""
        self.settle()
        first, count = self.waiting.pop(request_id, (0, 0))
        if not count or fitting(given, count) is None:
            return False
        width = given.shape[1]
        if self.probabilities is None:
            self.probabilities = np.full((min(len(self.at), self._most(width)), width), np.nan)
        start = len(self.probabilities) - (self.seen - first)
        if self.probabilities.shape[1] != width or start < 0:
            return False
        self.probabilities[start : start + count] = given
        self.changes += 1
        return True

    # ---- moving ----

    def copy(self) -> Rows:
        """Return another one with the same rows."""
        self.settle()
        copy = Rows()
        vars(copy).update(vars(self), new=[], waiting=dict(self.waiting))
        if self.probabilities is not None:
            copy.probabilities = self.probabilities.copy()
        return copy

    def extend(self, later: Rows) -> None:
        """Take the rows of another one, as newer than the own ones."""
        later.settle()
        if (later.shape, later.numbers) != (self.shape, self.numbers):
            self._begin(later.shape, numbers=later.numbers)
        probabilities = later.probabilities
        if probabilities is not None and len(probabilities) < len(later.at):
            lost = np.full((len(later.at) - len(probabilities), probabilities.shape[1]), np.nan)
            probabilities = np.concatenate([lost, probabilities])
        dropped = later.seen - len(later.at)
        if dropped:  # and so the own rows go as well
            self.seen += dropped
            self.waiting.clear()
        moved = self.seen
        self._append(later.at, later.keys, later.truth, later.prediction, probabilities)
        self.waiting |= {one: (first - dropped + moved, count) for one, (first, count) in later.waiting.items()}


def _probabilities(new: list[Note], counts: list[int]) -> Array | None:
    """Return the probabilities of all rows, NaN where there are none; None if there are none at all."""
    widths = [one.probabilities.shape[1] for one in new if one.probabilities is not None]
    if not widths:
        return None
    lost = np.full((max(counts), widths[-1]), np.nan)
    parts = [
        lost[:count] if given is None or given.shape[1] != widths[-1] else given
        for given, count in zip((one.probabilities for one in new), counts, strict=True)
    ]
    return np.concatenate(parts).astype(float)


def key_of(request_id: str) -> int:
    """Return 64 bits that say which request it is, in a tenth of the memory of its id."""
    return int.from_bytes(blake2b(request_id.encode(errors="replace"), digest_size=8).digest(), "big", signed=True)


def fitting(probabilities: Array | None, rows: int) -> Array | None:
    """Return probabilities of the shape (rows, classes), None in the place of others."""
    return probabilities if probabilities is not None and probabilities.shape[:-1] == (rows,) else None
