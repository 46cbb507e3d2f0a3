"""Rows at which another form is most likely to answer otherwise: on thresholds, a rounding beside them, and far out."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.registry.rows.columns import storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlnb.registry.signature import Field

__all__ = ["edge_rows"]

Array = np.ndarray[Any, Any]

_BASES = 200  # rows that edges are made from
_EDGES = 2000  # values that rows are made around, six each
_VALUES = 4_000_000  # numbers in all: wide rows are fewer
_COLUMNS = 200
_TREES = 100
_PER_TREE = 24
_WHOLE = 2**53  # whole numbers up to this are themselves in float64


def edge_rows(table: Array, fields: Sequence[Field], estimator: Any) -> Array:
    """Return rows made from those of a table by changing one value in each.

    The value is in the middle of two neighbours in its column, where trees have their thresholds, or a threshold of a
    tree on a row that gets there; it is taken as it is, in single precision, and with the numbers next to either. Or
    it is beyond all others, zero, or missing where it may be.

    Parameters
    ----------
    table : ndarray of shape (n, features)
    fields : sequence of Field
        Which values a column may hold.
    estimator : object
        Takes the table as it is, if its thresholds are to be used.

    Returns
    -------
    ndarray of float64 of shape (m, features)
    """
    bases = np.asarray(_spread(table, _BASES), dtype=np.float64)
    thresholds = list(_thresholds(estimator, bases))
    middles = list(_middles(bases))
    most = max(2, min(_EDGES, _VALUES // 6 // max(1, table.shape[1])))
    places = [*_spread(thresholds, most // 2), *_spread(middles, most // 2)]
    around = chain.from_iterable(((row, at, value) for value in _around(middle)) for row, at, middle in places)
    changes = [*around, *_spread(list(_outside(bases, fields)), most)]
    rows = bases[[row for row, _, _ in changes]]
    rows[np.arange(len(rows)), [at for _, at, _ in changes]] = [value for _, _, value in changes]
    for at, field in enumerate(fields):
        rows[:, at] = _held(rows[:, at], field)
    return rows


def _spread(values: Any, most: int) -> Any:
    """Return at most so many, evenly spread."""
    if len(values) <= most:
        return values
    places = np.linspace(0, len(values) - 1, most).astype(int)
    return values[places] if isinstance(values, np.ndarray) else [values[at] for at in places]


def _middles(bases: Array) -> Iterator[tuple[int, int, float]]:
    """Yield (row, feature, what is between the values of this row and the next smaller one)."""
    for at in _spread(np.arange(bases.shape[1]), _COLUMNS).tolist():
        column = bases[:, at]
        order = np.argsort(column, kind="stable")
        known = order[np.isfinite(column[order])]
        below, above = column[known[:-1]], column[known[1:]]
        middles = below / 2 + above / 2  # as scikit-learn's trees compute them
        apart = below < above
        yield from (
            (row, at, middle) for row, middle in zip(known[1:][apart].tolist(), middles[apart].tolist(), strict=True)
        )


def _thresholds(estimator: Any, bases: Array) -> Iterator[tuple[int, int, float]]:
    """Yield (row that gets to the node, feature, threshold) of scikit-learn's trees."""
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(bases, dtype=np.float32)
    for tree in _trees(estimator):
        if tree.n_features != bases.shape[1]:
            continue
        paths = tree.decision_path(single).tocsc()
        for node in _spread(np.flatnonzero(tree.children_left >= 0), _PER_TREE).tolist():
            if paths.indptr[node] < paths.indptr[node + 1]:
                yield int(paths.indices[paths.indptr[node]]), int(tree.feature[node]), float(tree.threshold[node])


def _trees(estimator: Any) -> Iterator[Any]:
    parts = np.ravel(np.asarray(getattr(estimator, "estimators_", [estimator]), dtype=object))
    return (part.tree_ for part in _spread(parts, _TREES) if hasattr(part, "tree_"))


def _around(value: float) -> list[float]:
    """Return a number, it in single precision, and the neighbours of both."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    singles = [np.nextafter(single, np.float32(-np.inf)), single, np.nextafter(single, np.float32(np.inf))]
    doubles = [np.nextafter(value, -np.inf), value, np.nextafter(value, np.inf)]
    return [float(number) for number in (*singles, *doubles) if np.isfinite(number)]


def _outside(bases: Array, fields: Sequence[Field]) -> Iterator[tuple[int, int, float]]:
    for at, field in enumerate(fields):
        known = bases[np.isfinite(bases[:, at]), at]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        reach = high - low + 1
        for place, value in enumerate((low - reach, high + reach, 0.0, -0.0, *([np.nan] if field.nullable else []))):
            yield (at + place) % len(bases), at, value


def _held(column: Array, field: Field) -> Array:
    """Return the values as the nearest that the field may hold; what is missing stays so."""
    dtype = storage(field.dtype) or np.dtype(np.float64)
    if dtype.kind == "f":
        return np.clip(column, np.finfo(dtype).min, np.finfo(dtype).max)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.clip(np.rint(column), max(low, -_WHOLE), min(high, _WHOLE))
