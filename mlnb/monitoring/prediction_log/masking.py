"""What of the inputs may be logged: fields left out, or hashed with a salt."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.monitoring.prediction_log.documents import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.monitoring.prediction_log.settings import LogSettings

__all__ = ["Mask", "hashed"]

_DIGITS = 16  # of a hash: 64 bits


class Mask:
    """Takes out of the inputs what is not to be logged.

    Parameters
    ----------
    settings : LogSettings
    salt : str
        Of the database.

    Examples
    --------
    >>> from mlnb.monitoring.prediction_log.settings import LogSettings
    >>> Mask(LogSettings(leave_out=("name",)), salt="").apply([["Ann", 3.0]], names=("name", "size"))
    [{'size': 3.0}]
    """

    def __init__(self, settings: LogSettings, *, salt: str) -> None:
        self._inputs, self._salt = settings.inputs, salt
        self._left_out, self._hashed = frozenset(settings.leave_out), frozenset(settings.hashed)
        self._fields = self._left_out | self._hashed
        self.active = bool(self._fields) or not settings.inputs

    def apply(self, inputs: Any, *, names: Sequence[str] | None) -> Any:
        """Return the inputs as they may be logged.

        Parameters
        ----------
        inputs : list of rows, ndarray, frame or None
        names : sequence of str or None
            Of the fields; where they are not known, and the rows do not name them, nothing may be logged.

        Returns
        -------
        inputs
            As they are where nothing is to be hidden, else a list of one dict for each row; None for nothing.
        """
        if not self._inputs or inputs is None:
            return None
        if not self._fields:
            return inputs
        rows = [self._named(row, names) for row in _rows(inputs)]
        return None if None in rows else rows

    def error(self, text: str | None) -> str | None:
        """Return an error's message without the values that it may show."""
        return text.partition(":")[0] if text and self.active else text

    def _named(self, row: Any, names: Sequence[str] | None) -> dict[str, Any] | None:
        if isinstance(row, dict):
            pairs = row.items()
        elif names is None:
            return None
        else:
            values = row if len(names) != 1 or _is_row(row) else [row]
            if not isinstance(values, (list, tuple)) or len(values) != len(names):
                return None
            pairs = dict(zip(names, values, strict=True)).items()
        return {
            name: hashed(value, salt=self._salt) if name in self._hashed else value
            for name, value in pairs
            if name not in self._left_out
        }


def hashed(value: Any, *, salt: str) -> str | None:
    """Return 16 hexadecimal digits that are the same for equal values and tell nothing else; None for None.

    Examples
    --------
    >>> hashed("Ann", salt="s") == hashed("Ann", salt="s") != hashed("Ann", salt="t")
    True
    >>> hashed(1, salt="s") == hashed(1.0, salt="s")
    True
    """
    if value is None:
        return None
    number = isinstance(value, (float, np.floating)) and float(value).is_integer()
    text = str(int(value)) if number else str(value)
    return hashlib.sha256(f"{salt}:{text}".encode(errors="replace")).hexdigest()[:_DIGITS]


def _rows(inputs: Any) -> list[Any]:
    rows = inputs.tolist() if isinstance(inputs, np.ndarray) else records(inputs)
    return list(rows)


def _is_row(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 1
