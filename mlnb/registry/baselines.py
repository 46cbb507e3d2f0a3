"""From an example to its baseline: the rows that are looked at, and the model's answers to some of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import InvalidInputError
from mlnb.registry.rows.baseline import make_baseline
from mlnb.registry.rows.columns import Column

if TYPE_CHECKING:
    from mlnb.registry.predictors import Predictor
    from mlnb.registry.rows.baseline import Baseline
    from mlnb.registry.signature import Signature

__all__ = ["measured"]

_ROWS, _ASKED = 20_000, 1_000
_SECONDS = 0.25  # that the model may take, as far as one can tell before it is asked
_FIRST, _GROWTH = 10, 4  # rows, and how many times as many as before are asked together
_REFUSED = 20  # rows of an example that may not fit its own signature, such as those with infinity


def measured(predictor: Predictor, signature: Signature, example: Any) -> Baseline | None:
    """Return the baseline of an example, None without one.

    Of a long example 20,000 rows are looked at, picked by chance, always the same; 1,000 of them, or as many as a
    quarter of a second allows, are answered by the model.

    Parameters
    ----------
    predictor : Predictor
    signature : Signature
    example : object
        Rows in any form.
    """
    if example is None or signature.container == "any":
        return None
    checked = _checked(signature, _picked(example))
    if checked is None:
        return None
    rows = len(checked[0].data if isinstance(checked, list) else checked)
    mixed = _part(checked, np.random.default_rng(0).permutation(rows))  # examples are often sorted by class
    return make_baseline(signature, mixed, answers=_asked(predictor, signature, mixed, rows=rows))


def _picked(example: Any) -> Any:
    if getattr(example, "ndim", 2) == 1 and not hasattr(example, "iloc") and example.dtype.kind not in "OUT":
        return example  # one row
    if len(example) <= _ROWS:
        return example
    places = np.random.default_rng(0).choice(len(example), _ROWS, replace=False)
    return _taken(example, places.tolist())


def _taken(example: Any, places: list[int]) -> Any:
    if hasattr(example, "iloc"):
        return example.iloc[places]
    if type(example).__module__.startswith("pyarrow"):
        return example.take(places)
    if isinstance(example, (list, tuple)):
        nested = isinstance(example[0], (list, tuple, dict, str, np.ndarray))
        return [example[at] for at in places] if nested else example
    return example[places]


def _checked(signature: Signature, example: Any) -> Any:
    """Return the rows checked, without the few that do not fit; None where many do not."""
    for _ in range(_REFUSED):
        try:
            return signature.check(example)
        except InvalidInputError as error:
            row = error.details.get("row")
            if row is None or len(example) < 2:  # noqa: PLR2004 - one row is left
                return None
            example = _taken(example, [at for at in range(len(example)) if at != row])
    return None


def _asked(predictor: Predictor, signature: Signature, checked: Any, *, rows: int) -> np.ndarray[Any, Any] | None:
    """Return the model's answers to the first of the rows, None if it fails on them."""
    began, answers, at, size = time.perf_counter(), list[np.ndarray[Any, Any]](), 0, min(rows, _FIRST)
    while size > 0:
        try:
            answers.append(np.asarray(predictor.predict(signature.build(_part(checked, slice(at, at + size))))))
        except Exception:  # noqa: BLE001 - the golden rows have shown that it answers; here it need not
            return None
        at += size
        left = _SECONDS / (time.perf_counter() - began) - 1  # of the rows so far, as many as there is time for
        size = int(min(rows - at, _ASKED - at, at * _GROWTH, at * left))
    return np.concatenate(answers) if len({one.shape[1:] for one in answers}) == 1 else None


def _part(checked: Any, places: slice | np.ndarray[Any, Any]) -> Any:
    if isinstance(checked, np.ndarray):
        return checked[places]
    return [Column(one.data[places], None if one.missing is None else one.missing[places]) for one in checked]
