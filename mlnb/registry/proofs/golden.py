"""Golden rows: a few example rows with the answers that the model gave to them when it was registered."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import NotServableError
from mlnb.registry.rows.columns import is_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.registry.predictors import Predictor
    from mlnb.registry.signature import Signature

__all__ = ["GoldenRows", "disagreements", "golden_rows"]

_ROWS = 32
_VALUES = 100_000  # numbers in all: wide rows are fewer
_TOLERANCE = {"float16": 1e-2, "float32": 1e-4}  # of the largest answer; other machines round the last digits otherwise
_DOUBLE = 1e-6
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRows:
    """Rows and answers as plain values.

    Attributes
    ----------
    rows : list
        ``(n, features)``, as a request would send them.
    answers : list
        ``(n, ...)``
    probabilities : list or None
        ``(n, classes)``
    dtype : str
        Of the answers.
    repeatable : bool
        Whether the model answers the same rows the same way twice. Only then are answers compared.
    """

    rows: list[Any]
    answers: list[Any]
    probabilities: list[Any] | None
    dtype: str
    repeatable: bool = True

    def to_json(self) -> bytes:
        """Return the stored form."""
        return json.dumps(asdict(self)).encode()  # not orjson: it knows neither infinity nor whole numbers of 20 digits

    @classmethod
    def from_json(cls, stored: bytes | memoryview) -> GoldenRows:
        """Read the stored form."""
        return cls(**json.loads(bytes(stored)))


def golden_rows(predictor: Predictor, signature: Signature, example: Any) -> GoldenRows | None:
    """Take up to 32 rows spread over the example, and ask the model.

    Raises
    ------
    InvalidInputError
        If a row of the example does not fit its own signature.
    NotServableError
        If the model cannot answer them.
    """
    if example is None or signature.container == "any":
        return None
    rows = _plain_rows(signature.coerce(_spread(example)))
    try:
        return ask(predictor, signature, rows)
    except NotServableError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")[:300]
        raise NotServableError(
            f"The model cannot predict the example's rows: {reason}. Give an example like what it was fitted on."
        ) from error


def ask(predictor: Predictor, signature: Signature, rows: list[Any]) -> GoldenRows:
    """Return the model's answers to plain rows.

    Raises
    ------
    NotServableError
        If there is not one answer for each row.
    """
    given = signature.coerce(rows)
    answers = np.asarray(predictor.predict(given))
    if answers.shape[:1] != (len(rows),):
        raise NotServableError(
            f"The model's predict gave the shape {answers.shape} for {len(rows)} rows; "
            "needed is one answer for each row."
        )
    asked = predictor.probabilities
    probabilities = None if asked is None else _plain_array(asked(given))
    return GoldenRows(rows=rows, answers=_plain_array(answers), probabilities=probabilities, dtype=answers.dtype.name)


def disagreements(recorded: GoldenRows, now: GoldenRows) -> list[str]:
    """Return one text for each golden row that is answered differently; none where answers are not repeatable.

    Labels and whole numbers must be equal. Fractions may differ by 1e-6 of the largest (float32: 1e-4): other machines
    and library builds round the last digits differently.
    """
    if not recorded.repeatable:
        return []
    wrong = _unequal(recorded.answers, now.answers, _TOLERANCE.get(recorded.dtype, _DOUBLE), what="")
    if wrong or recorded.probabilities is None or now.probabilities is None:
        return wrong
    return _unequal(recorded.probabilities, now.probabilities, _TOLERANCE["float32"], what="probabilities ")


def _unequal(recorded: list[Any], now: list[Any], tolerance: float, *, what: str) -> list[str]:
    slack = tolerance * _size(recorded)
    return [
        f"row {at}: {what}{_short(then)} recorded, {_short(answer)} now"
        for at, (then, answer) in enumerate(zip(recorded, now, strict=True))
        if not _agree(then, answer, slack)
    ]


def _size(answers: Any) -> float:
    """Return the largest absolute value among the fractions in the answers, 0 where there are none."""
    if isinstance(answers, list):
        return max((_size(answer) for answer in answers), default=0.0)
    return abs(answers) if isinstance(answers, float) and math.isfinite(answers) else 0.0


def _spread(example: Any) -> Any:
    """Return up to 32 rows of the example, spread evenly, in its own form."""
    if (
        getattr(example, "ndim", None) == 1
        and not hasattr(example, "iloc")
        and np.asarray(example).dtype.kind not in "OU"
    ):
        return example  # one row
    count = len(example)
    width = max(1, int(np.size(example) // max(count, 1))) if hasattr(example, "shape") else 1
    wanted = max(1, min(count, _ROWS, _VALUES // width))
    places = np.unique(np.linspace(0, count - 1, wanted).astype(int)).tolist()
    if hasattr(example, "iloc"):
        return example.iloc[places]
    if hasattr(example, "take") and type(example).__module__.startswith("pyarrow"):
        return example.take(places)
    if isinstance(example, (list, tuple)):
        return (
            [example[at] for at in places] if isinstance(example[0], (list, tuple, dict, str, np.ndarray)) else example
        )
    return example[places]


def _plain_rows(given: Any) -> list[Any]:
    """Return rows in the model's form as lists of plain values."""
    if isinstance(given, np.ndarray):
        return _plain_array(given)
    columns = [list(given[name]) for name in given.columns]
    return [[_plain(value) for value in row] for row in zip(*columns, strict=True)]


def _plain_array(array: np.ndarray[Any, Any]) -> list[Any]:
    if array.dtype.kind == "M":  # whose tolist gives whole numbers for nanoseconds
        texts = np.datetime_as_string(array).astype(object)
        texts[np.isnat(array)] = None
        array = texts
    return [_plain(value) for value in array.tolist()]


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON cannot hold as the text Python writes for it."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if is_missing(value):
        return None
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (str, bool, int, float)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else _ADDRESS.sub("", repr(value))


def _agree(then: Any, now: Any, slack: float) -> bool:
    if isinstance(then, list) and isinstance(now, list):
        return len(then) == len(now) and all(_agree(one, other, slack) for one, other in zip(then, now, strict=True))
    if isinstance(then, float) and isinstance(now, float) and math.isfinite(then):
        return abs(then - now) <= slack
    return bool(then == now) and isinstance(then, bool) == isinstance(now, bool)


def _short(value: Sequence[Any] | Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - fits one line
