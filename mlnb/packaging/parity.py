"""Whether what runs elsewhere predicts what the notebook predicted: golden rows are asked, and answers compared."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from mlnb.packaging.endpoint import Endpoint
from mlnb.registry.proofs.golden import disagreements

if TYPE_CHECKING:
    from mlnb.registry.proofs.golden import GoldenRows

__all__ = ["Parity", "check"]

_PART = 16  # rows of one request


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What came of it.

    Attributes
    ----------
    where : str
        What was asked, for a person: ``"container iris-3"``.
    rows : int
        Golden rows that were asked; 0 if the version has none, or its answers are not repeatable.
    wrong : tuple of str
        A text for each row that was answered differently, or not at all.
    reason : str
        Why no answers were compared, "" if they were.
    seconds : float
        For all of them.
    """

    where: str
    rows: int
    wrong: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether all rows were compared and answered alike."""
        return bool(self.rows) and not self.wrong

    def __str__(self) -> str:
        if not self.rows:
            return f"{self.where}: no answers compared ({self.reason})"
        alike = self.rows - len(self.wrong)
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"{self.where}: {alike} of {self.rows} golden row{'s' * (self.rows > 1)} answered as in the notebook{why}"
        )


def check(
    url: str, *, name: str, golden: GoldenRows | None, where: str, token: str = "", timeout: float = 30.0
) -> Parity:
    """Ask a server for the golden rows, and compare with what was recorded when the version was registered.

    A server that does not answer, or refuses the rows, raises nothing: no row was answered as in the notebook, so each
    of them is wrong, and the reason says why. With no golden rows, or with answers that are not repeatable, nothing is
    asked, and no row is wrong.

    Parameters
    ----------
    url : str
        Of the server, without ``/models/NAME``.
    name : str
        Of the model.
    golden : GoldenRows or None
    where : str
        What is asked, for a person.
    token : str
        That the server wants.
    timeout : float
        Seconds for each request of 16 rows.

    Raises
    ------
    InvalidInputError
        If the address is none of HTTP.

    Examples
    --------
    >>> print(check("http://127.0.0.1:8000", name="iris", golden=None, where="container iris-3"))
    container iris-3: no answers compared (the version has no golden rows: it was registered without an example)
    """
    if golden is None or not golden.rows:
        reason = "the version has no golden rows: it was registered without an example"
        return Parity(where=where, rows=0, reason=reason)
    if not golden.repeatable:
        return Parity(where=where, rows=0, reason="the model does not answer the same rows the same way twice")
    started = time.monotonic()
    try:
        wrong, reason = _differences(golden, _answers(url, name, golden, token, timeout)), ""
    except OSError as error:
        reason = str(error) if isinstance(error, _RefusedError) else f"nobody answers at {url}: {error}"
        wrong = [f"row {row}: no answer" for row in range(len(golden.rows))]
    seconds = time.monotonic() - started
    return Parity(where=where, rows=len(golden.rows), wrong=tuple(wrong), reason=reason, seconds=seconds)


class _RefusedError(OSError):
    """An answer without predictions for the rows."""


def _answers(url: str, name: str, golden: GoldenRows, token: str, timeout: float) -> GoldenRows:
    """Return the golden rows with what the server says now."""
    asked = {"probabilities": True} if golden.probabilities is not None else {}
    answers: list[Any] = []
    probabilities: list[Any] = []
    with Endpoint(url, token=token, timeout=timeout) as endpoint:
        for since in range(0, len(golden.rows), _PART):
            rows = golden.rows[since : since + _PART]
            document = _ask(endpoint, name, {"instances": rows} | asked)
            answers += _listed(document, "prediction", len(rows))
            if asked and "probabilities" in document:
                probabilities += _listed(document, "probabilities", len(rows))
    complete = len(probabilities) == len(golden.rows)
    return replace(golden, answers=answers, probabilities=probabilities if complete else None)


def _ask(endpoint: Endpoint, name: str, question: dict[str, Any]) -> dict[str, Any]:
    reply = endpoint.post(f"/models/{quote(name)}/predict", question)
    if reply.status != HTTPStatus.OK or not isinstance(reply.document, dict):
        raise _RefusedError(reply.reason)
    return reply.document


def _listed(document: dict[str, Any], key: str, rows: int) -> list[Any]:
    found = document.get(key)
    if not isinstance(found, list) or len(found) != rows:
        raise _RefusedError(f"its answer has not one {key} for each of {rows} rows")
    return found


def _differences(recorded: GoldenRows, now: GoldenRows) -> list[str]:
    """Compare, after bringing both to what JSON can say."""
    if recorded.probabilities is not None and now.probabilities is None:
        return [f"row {row}: probabilities recorded, none now" for row in range(len(recorded.rows))]
    recorded, now = (
        replace(one, answers=_sayable(one.answers, one.dtype), probabilities=_sayable(one.probabilities, ""))
        for one in (recorded, now)
    )
    return disagreements(recorded, now)


def _sayable(values: Any, dtype: str) -> Any:
    """Return values as both sides can write them: infinity has no JSON and comes as null, times come in two forms."""
    if dtype.startswith("datetime64"):
        return np.array(values, dtype=dtype).astype(str).tolist()
    if isinstance(values, list):
        return [_sayable(value, dtype) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
