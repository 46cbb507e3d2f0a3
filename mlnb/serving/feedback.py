"""What became of requests, as people and programs say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError
from mlnb.monitoring.outcomes import Label

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["labels_of", "read_feedback"]

_FORMS = '{"request_id": "..", "label": ..}, with "outcome" in the place of "label", or {"feedback": [..]} of many'
_KNOWN = frozenset({"request_id", "label", "outcome"})
_MOST = 10_000  # in one go: the server answers nobody meanwhile


def labels_of(given: Any, label: Any = None, outcome: float | None = None) -> list[Label]:
    """Return what a person gave: one request's id with its label or outcome, or a table of many.

    Parameters
    ----------
    given : str, DataFrame, or list of dicts
        A table has the columns ``request_id`` and ``label`` or ``outcome``; ``request_id`` may be its index.

    Raises
    ------
    InvalidInputError
    """
    if isinstance(given, str):
        return [Label(given, label=label, outcome=outcome)]
    if label is not None or outcome is not None:
        raise InvalidInputError(f"A label belongs to one request id; {type(given).__name__} has its own.")
    if hasattr(given, "to_dict") and hasattr(given, "columns"):
        given = _records(given)
    if not isinstance(given, list):
        raise InvalidInputError(
            f"Feedback is a request id with a label, or a table with the columns request_id and label, not a "
            f"{type(given).__name__}."
        )
    return _all(given)


def _records(table: Any) -> list[Any]:
    """Return the rows of a pandas or polars table."""
    if hasattr(table, "index") and table.index.name == "request_id":
        table = table.reset_index()
    known = table[[name for name in table.columns if name in _KNOWN]]
    records: list[Any] = known.to_dicts() if hasattr(known, "to_dicts") else known.to_dict("records")
    return records


def read_feedback(document: Any) -> list[Label]:
    """Return what the body of ``POST feedback`` says.

    Raises
    ------
    InvalidInputError
    """
    if isinstance(document, dict) and set(document) == {"feedback"} and isinstance(document["feedback"], list):
        return _all(document["feedback"])
    return _all([document])


def _all(given: list[Any]) -> list[Label]:
    if not given or len(given) > _MOST:
        raise InvalidInputError(
            f"Feedback is about 1 to {_MOST:,} requests at once, not {len(given):,}; send it in parts."
        )
    return [_one(one, at) for at, one in enumerate(given)]


def _one(given: Any, at: int) -> Label:
    if not isinstance(given, dict) or not isinstance(given.get("request_id"), str):
        raise InvalidInputError(f"Entry {at} names no 'request_id'; send {_FORMS}.")
    extra = sorted(map(str, set(given) - _KNOWN))
    if extra:
        raise InvalidInputError(f"Entry {at} has the keys {extra[:8]}; send {_FORMS}.")
    return Label(given["request_id"], label=_there(given, "label"), outcome=_there(given, "outcome"))


def _there(given: Mapping[str, Any], name: str) -> Any:
    """Return a member; the NaN of an empty cell of a table is none."""
    value = given.get(name)
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN
