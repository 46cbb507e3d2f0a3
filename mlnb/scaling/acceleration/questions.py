"""What the forms of a model are asked: all that is known to be a row, alone and in batches, and rows on the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.registry.rows.columns import storage
from mlnb.scaling.acceleration.comparison import Asked, ask
from mlnb.scaling.acceleration.edges import edge_rows
from mlnb.scaling.acceleration.forms import table_of
from mlnb.scaling.acceleration.steps import split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlnb.registry.predictors import Predictor
    from mlnb.registry.proofs.golden import GoldenRows
    from mlnb.registry.signature import Signature

__all__ = ["edge_questions", "known_rows", "obstacle", "questions"]

_MOST_ROWS = 100_000  # of an example; of a larger one so many, evenly spread
_CHUNK = 4096
_SINGLES = 32


def obstacle(signature: Signature, golden: GoldenRows | None, example: Any | None) -> str:
    """Return why no form can be compared with the model; empty if one can."""
    if signature.container not in ("array", "frame", "polars"):
        return "its rows are no table of known columns"
    for field in signature.fields:
        dtype = storage(field.dtype)
        if dtype is None or field.categories or (field.nullable and dtype.kind != "f"):
            return f"the column {field.name!r} is not of plain numbers"
    if golden is not None and not golden.repeatable:
        return "it answers the same rows differently each time"
    return "there are no rows to compare" if golden is None and example is None else ""


def known_rows(signature: Signature, golden: GoldenRows | None, example: Any | None) -> list[Any]:
    """Return the golden rows and the example as the model takes them, those that there are."""
    given = ([] if golden is None else [golden.rows]) + ([] if example is None else [example])
    rows = [signature.coerce(some) for some in given]
    return [some[:: -(-len(some) // _MOST_ROWS)] for some in rows]


def questions(own: Predictor, known: list[Any]) -> list[Asked]:
    """Ask the model all known rows in chunks; the first of them are asked again one by one."""
    batches = [ask(own, rows[at : at + _CHUNK]) for rows in known for at in range(0, len(rows), _CHUNK)]
    return [*batches, *_one_by_one(batches[0])]


def _one_by_one(batch: Asked) -> Iterator[Asked]:
    for at in range(min(len(batch.prediction), _SINGLES)):
        one = slice(at, at + 1)
        probabilities = None if batch.probabilities is None else batch.probabilities[one]
        yield Asked(rows=batch.rows[one], prediction=batch.prediction[one], probabilities=probabilities)


def edge_questions(model: Any, own: Predictor, signature: Signature, rows: Any) -> list[Asked]:
    """Ask the model rows on the edge; those with missing values apart, since it may refuse them."""
    steps, last = split(model)
    edges = edge_rows(table_of(rows), signature.fields, None if steps else last)
    missing = np.isnan(edges).any(axis=1)
    return [*_answered(own, signature, edges[~missing]), *_answered(own, signature, edges[missing])]


def _answered(own: Predictor, signature: Signature, edges: np.ndarray[Any, Any]) -> list[Asked]:
    if not len(edges):
        return []
    rows = signature.coerce(edges)
    try:
        return [ask(own, rows)]
    except Exception:  # noqa: BLE001 - what the model cannot answer has no answer to compare with
        return []
