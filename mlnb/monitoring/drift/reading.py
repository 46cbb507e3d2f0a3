"""Sampled rows, in whatever form they came, turned into columns that can be compared."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import MlnbError
from mlnb.registry.rows.baseline import answer_values, column_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.monitoring.drift.sampling import SampledRows
    from mlnb.registry.signature import Signature

__all__ = ["Window", "columns_of"]

Values = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """Rows as columns.

    Attributes
    ----------
    columns : mapping of str to ndarray of shape (n,)
        Numbers as float64 with NaN, all else as objects with None.
    prediction : ndarray of shape (n,), or None
        None where an answer is not one value for each row.
    """

    columns: Mapping[str, Values]
    prediction: Values | None


def columns_of(signature: Signature, sampled: SampledRows) -> Window:
    """Return sampled rows as ``assess`` takes them. It converts thousands of values: call it off the event loop.

    Requests that do not fit the signature, such as those of a model deployed anew under the same number, are left out.

    Parameters
    ----------
    signature : Signature
        Of the version.
    sampled : SampledRows

    Examples
    --------
    >>> from mlnb.monitoring.drift.sampling import SampledRows
    >>> from mlnb.registry.rows.inference import infer_signature
    >>> signature = infer_signature(None, [[0.5, 1.0]])
    >>> inputs = ([[1, 2]], np.array([[3.0, 4.0]]))
    >>> rows = SampledRows(version=1, rows=2, since=0, until=0, inputs=inputs, predictions=())
    >>> columns_of(signature, rows).columns
    {'x0': array([1., 3.]), 'x1': array([2., 4.])}
    """
    parts = [
        column_values(signature, checked)
        for form, inputs in groupby(sampled.inputs, key=_form)
        for checked in _checked(signature, list(inputs), form)
    ]
    parts = [part for part in parts if part]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    return Window(columns, _answers(signature, sampled.predictions))


def _form(inputs: Any) -> str:
    """Say how rows came; those of one form can be checked together."""
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], (list, dict, str)):
        return type(inputs[0]).__name__
    if isinstance(inputs, np.ndarray) and inputs.ndim > 1:
        return f"{inputs.dtype} {inputs.shape[1:]}"
    return ""


def _checked(signature: Signature, inputs: Sequence[Any], form: str) -> list[Any]:
    """Return the requests' rows, all at once if they fit together, else those that fit by themselves."""
    together = _joined(inputs, form)
    if together is not None:
        with suppress(MlnbError):
            return [signature.check(together)]
    found = []
    for rows in inputs:
        with suppress(MlnbError):
            found.append(signature.check(rows))
    return found


def _joined(inputs: Sequence[Any], form: str) -> Any:
    """Return the rows of requests of one form in one, None where that is not simple."""
    if not form:
        return None
    if isinstance(inputs[0], np.ndarray):
        return np.concatenate(inputs)
    return [row for rows in inputs for row in rows]


def _answers(signature: Signature, predictions: Sequence[Values | None]) -> Values | None:
    read = [None if one is None else answer_values(signature, np.asarray(one)) for one in predictions]
    known = [one for one in read if one is not None]
    if not known:
        return None
    alike = len({one.dtype for one in known}) == 1
    return np.concatenate(known if alike else [one.astype(object) for one in known])
