"""Versions that fail, hang, crash or take their time, once they see requests; the example row they answer well."""

from __future__ import annotations

import ctypes
import time
from typing import Any, Literal

import numpy as np
from loading import Numbered


class Misbehaving(Numbered):
    """Does so in one ``way`` on a ``share`` of all rows, which are always the same ones; the others are answered.

    A row that is answered slowly takes ``seconds``, and one that hangs takes a minute.
    """

    def __init__(
        self, number: int, way: Literal["fails", "hangs", "crashes", "is slow"], *, share: float = 1.0,
        seconds: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(number)
        self.way = way
        self.share = share
        self.delay = seconds

    def predict(self, rows: Any) -> Any:
        firsts = np.asarray(rows, float)[:, 0]
        if firsts[0] >= 1 and any(map(self._meets, firsts.tolist())):
            self._misbehave()
        return super().predict(rows)

    def _meets(self, value: float) -> bool:
        return int(value) * 2654435761 % 2**32 < self.share * 2**32

    def _misbehave(self) -> None:
        if self.way == "fails":
            raise ValueError("one of those rows")
        if self.way == "crashes":
            ctypes.string_at(0)
        time.sleep(60 if self.way == "hangs" else self.delay)
