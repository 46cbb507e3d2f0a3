"""What became of requests, as people and programs say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlnb.errors import InvalidInputError, nearest
from mlnb.monitoring.outcomes import Label

__all__ = ["labels_of", "read_feedback"]

_FORMS = '{"request_id": "..", "label": ..}, with "outcome" in the place of "label", or {"feedback": [..]} of many'
_PEOPLE = (
    "a request id with a label, {id: label}, ids and labels in two lists, or a table with the columns request_id and "
    "label or outcome"
)
_KNOWN = frozenset({"request_id", "label", "outcome"})
_MOST = 10_000  # in one go: the server answers nobody meanwhile


def labels_of(given: Any, label: Any = None, outcome: Any = None) -> list[Label]:
    """Return what a person gave: one request's id with its label or outcome, or those of many.

    Parameters
    ----------
    given : str, DataFrame, mapping, Series, or sequence
        Of many: a table with the columns ``request_id`` and ``label`` or ``outcome``, where ``request_id`` may be the
        index; labels by id, as a mapping or a Series; a list of dicts; or a sequence of ids.
    label, outcome : object, optional
        Of one id, or a sequence as long as that of ids.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> labels_of({"a1": "rose", "b2": "tulip"}) == labels_of(["a1", "b2"], ["rose", "tulip"])
    True
    """
    if isinstance(given, str):
        return [Label(given, label=label, outcome=outcome)]
    if label is not None or outcome is not None:
        return _all(_zipped(given, {"label": label, "outcome": outcome}))
    if hasattr(given, "to_dict") and hasattr(given, "columns"):
        return _all(_records(given))
    if isinstance(given, Mapping) and given.get("request_id") is not None:
        return _all([given])
    if isinstance(given, Mapping) or (hasattr(given, "items") and hasattr(given, "index")):
        return _all([{"request_id": one, "label": its} for one, its in given.items()])
    if not isinstance(given, (list, tuple)):
        raise InvalidInputError(f"Feedback is {_PEOPLE}, not a {type(given).__name__}.")
    if given and all(isinstance(one, str) for one in given):
        raise InvalidInputError(f"These {len(given):,} request ids come without labels; give {_PEOPLE}.")
    return _all(list(given))


def _zipped(ids: Any, told: Mapping[str, Any]) -> list[Any]:
    """Return entries of ids with as many labels or outcomes."""
    if hasattr(ids, "columns") or isinstance(ids, Mapping) or not _is_sequence(ids):
        raise InvalidInputError(
            f"A label or an outcome goes with a request id, or with a list of ids. Labels of a {type(ids).__name__} "
            "are in it: give it alone."
        )
    ids = list(ids)
    entries: list[dict[str, Any]] = [{"request_id": one} for one in ids]
    for name, values in told.items():
        if values is None:
            continue
        count = len(values) if _is_sequence(values) else 1
        if count != len(ids) or not _is_sequence(values):
            raise InvalidInputError(
                f"There are {len(ids):,} request ids and {count:,} {name}{'s' * (count != 1)}; give one for each."
            )
        for entry, value in zip(entries, values, strict=True):
            entry[name] = value
    return entries


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__iter__") and not isinstance(value, (str, bytes, Mapping))


def _records(table: Any) -> list[Any]:
    """Return the rows of a pandas or polars table."""
    if hasattr(table, "index") and table.index.name == "request_id":
        table = table.reset_index()
    columns = [name for name in table.columns if name in _KNOWN]
    for needed in ({"request_id"}, {"label", "outcome"}):
        if needed.isdisjoint(columns):
            there = nearest(min(needed), map(str, table.columns))
            wanted = " or ".join(map(repr, sorted(needed)))
            raise InvalidInputError(f"The table has no column {wanted}; {there}. Rename the column that is meant.")
    known = table[columns]
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
    if not isinstance(given, Mapping) or "request_id" not in given:
        raise InvalidInputError(f"Entry {at} names no 'request_id'; send {_FORMS}.")
    if not isinstance(given["request_id"], str):
        raise InvalidInputError(f"Entry {at} has the request_id {given['request_id']!r:.40}, which is no text.")
    extra = sorted(map(str, set(given) - _KNOWN))
    if extra:
        raise InvalidInputError(f"Entry {at} has the keys {extra[:8]}; send {_FORMS}.")
    return Label(given["request_id"], label=_there(given, "label"), outcome=_there(given, "outcome"))


def _there(given: Mapping[str, Any], name: str) -> Any:
    """Return a member; the NaN of an empty cell of a table is none."""
    value = given.get(name)
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN
