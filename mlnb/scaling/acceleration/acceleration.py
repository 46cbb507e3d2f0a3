"""The fastest form of a model that answers as the model does, or none, with the reason in one line."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import MissingLibraryError, MlnbError
from mlnb.registry.predictors import predictor
from mlnb.scaling.acceleration.candidates import TITLES, candidate_of, kinds_of
from mlnb.scaling.acceleration.comparison import ask, compare, distance, largest_number
from mlnb.scaling.acceleration.forms import table_of
from mlnb.scaling.acceleration.questions import edge_questions, known_rows, obstacle, questions
from mlnb.scaling.acceleration.timing import median_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.registry.predictors import Predictor
    from mlnb.registry.proofs.golden import GoldenRows
    from mlnb.registry.signature import Signature
    from mlnb.scaling.acceleration.candidates import Candidate
    from mlnb.scaling.acceleration.comparison import Asked

__all__ = ["Acceleration", "Alike", "accelerate", "chosen"]

_MANY = 64
_REPEATABLE = 1e-9  # threads of a forest add up in any order
_GAIN = 1.2  # at one row or at 64
_NO_LOSS = 0.95  # at either; the clock of a busy machine is no better
_BUDGET = 0.3  # seconds, for each of the two sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceleration:
    """How a model answers faster; plain values, so that another process can do the same.

    Attributes
    ----------
    kind : {'onnx', 'trees', 'linear', 'libsvm', 'none'}
    reason : str
        One line for people.
    gain : tuple of (float, float)
        How many times faster than the model's own predict, for 1 row and for 64.
    tolerance : float
        How far numbers and probabilities may be from the model's own, as a share of the largest. Labels are the same.
    rows : int
        How many were compared, edge rows included.
    tried : tuple of (str, str)
        Each form and what came of it.
    before : tuple of str
        The kind of an exact form that answers what this one cannot, if there is one; else the model does.
    content : bytes
        The ONNX graph, if that is the form.
    """

    kind: str
    reason: str
    gain: tuple[float, float] = (1.0, 1.0)
    tolerance: float = 0.0
    rows: int = 0
    tried: tuple[tuple[str, str], ...] = ()
    before: tuple[str, ...] = ()
    content: bytes = b""

    def __repr__(self) -> str:
        return f"Acceleration(kind={self.kind!r}, reason={self.reason!r})"

    def restore(self, model: Any, *, threads: int = 1) -> Predictor:
        """Return how the same model, in this process or another, answers in this form.

        Parameters
        ----------
        model : object
        threads : int
            That ONNX Runtime may use for one answer.

        Raises
        ------
        NotServableError
            If the model has no such form: it is another one.
        MissingLibraryError
            If ONNX Runtime is needed and not installed.
        """
        answering = predictor(model)
        for kind in () if self.kind == "none" else (*self.before, self.kind):
            answering = candidate_of(model, kind, own=answering, content=self.content, threads=threads).predictor
        return answering


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """A form that answers as the model.

    Attributes
    ----------
    candidate : Candidate
    largest : float
        Difference to the model's numbers and probabilities, as a share of the largest.
    gain : tuple of (float, float)
        For 1 row and for 64.
    before : tuple of str
        See :class:`Acceleration`.
    """

    candidate: Candidate
    largest: float
    gain: tuple[float, float] = (1.0, 1.0)
    before: tuple[str, ...] = ()


def accelerate(
    model: Any, *, signature: Signature, golden: GoldenRows | None, example: Any | None = None
) -> Acceleration:
    """Find the fastest form of a model that answers as the model does.

    Every form is asked all that is known: the golden rows, together and one by one, the example, and rows made from
    them that lie on the thresholds of trees and a rounding beside them. After one other label, or one number further
    off than the tolerance, it is not used. What a form cannot answer for sure it leaves to the model: missing values
    where it knows none, and labels that are nearly a tie where it rounds.

    Parameters
    ----------
    model : object
    signature : Signature
    golden : GoldenRows or None
    example : array, DataFrame or list, optional
        ``(n, features)``; of more than 100,000 rows about so many are compared.

    Raises
    ------
    NotServableError
        If the model cannot answer rows at all.

    Examples
    --------
    >>> from mlnb.registry.rows.inference import infer_signature
    >>> def double(rows):
    ...     return 2 * rows[:, 0]
    >>> rows = [[1.0], [2.0]]
    >>> accelerate(double, signature=infer_signature(double, rows), golden=None, example=rows).kind
    'none'
    """
    own = predictor(model)
    reason = obstacle(signature, golden, example)
    if reason:
        return _nothing(reason)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the model's, on rows that nobody sent
        try:
            known = known_rows(signature, golden, example)
            asked = questions(own, known)
            again = ask(own, asked[0].rows)
            edges = edge_questions(model, own, signature, known[-1])
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            return _nothing(f"it fails on its own example: {_line(error)}")
        size = largest_number(asked)
        if not distance(asked[0].prediction, again.prediction, size=size) <= _REPEATABLE:
            return _nothing("it answers the same rows differently each time")
        asked += edges
        alike, others = _tried(model, own, asked, size)
        return chosen(_timed(own, alike, signature, known[-1]), others, asked=asked)


def _nothing(reason: str, tried: Sequence[tuple[str, str]] = ()) -> Acceleration:
    return Acceleration(kind="none", reason=f"The model itself answers: {reason}.", tried=tuple(tried))


def _tried(
    model: Any, own: Predictor, asked: Sequence[Asked], size: float
) -> tuple[list[Alike], list[tuple[str, str]]]:
    """Return the forms that answer as the model, and why the others are not used."""
    alike: list[Alike] = []
    others: list[tuple[str, str]] = []
    for kind in kinds_of(model):
        exact = alike[0].candidate if alike else None
        try:
            candidate = candidate_of(model, kind, own=exact.predictor if exact else own)
            agreement = compare(candidate.predictor, asked, tolerance=candidate.tolerance, size=size)
        except MissingLibraryError:
            others.append((TITLES[kind], "not installed: pip install 'mlnb[onnx]'"))
        except Exception as error:  # noqa: BLE001 - converters and private code may raise anything; then there is no form
            others.append((TITLES[kind], _line(error)))
        else:
            before = (exact.kind,) if exact else ()
            if agreement.reason:
                others.append((TITLES[kind], agreement.reason))
            else:
                alike.append(Alike(candidate=candidate, largest=agreement.largest, before=before))
    return alike, others


def _line(error: Exception) -> str:
    text = str(error) if isinstance(error, MlnbError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).rstrip(".")[:200]


def _timed(own: Predictor, alike: list[Alike], signature: Signature, known: Any) -> list[Alike]:
    if not alike:
        return []
    table = table_of(known)
    answers = [own.predict, *(one.candidate.predictor.predict for one in alike)]
    rows = [signature.coerce(np.resize(table, (count, table.shape[1]))) for count in (1, _MANY)]
    few, many = (median_seconds(answers, some, budget=_BUDGET) for some in rows)
    gains = zip(few[1:], many[1:], strict=True)
    return [replace(form, gain=(few[0] / one, many[0] / more)) for form, (one, more) in zip(alike, gains, strict=True)]


def chosen(alike: Sequence[Alike], others: Sequence[tuple[str, str]], *, asked: Sequence[Asked]) -> Acceleration:
    """Return the fastest of the forms that answer as the model, if it is worth it.

    Parameters
    ----------
    alike : sequence of Alike
    others : sequence of (str, str)
        The forms that do not, and why.
    asked : sequence of Asked
        All that was compared.
    """
    rows = sum(len(batch.prediction) for batch in asked)
    told = {one.candidate.kind: f"{_speed(one.gain)}; {_sameness(one.largest, asked[0], rows)}" for one in alike}
    tried = (*((TITLES[kind], text) for kind, text in told.items()), *others)
    worth = [one for one in alike if max(one.gain) >= _GAIN and min(one.gain) >= _NO_LOSS]
    if not worth:
        return _nothing(f"no faster form was found ({'; '.join(f'{name}: {text}' for name, text in tried)})", tried)
    best = worth[0]  # exact forms come first
    for one in worth[1:]:
        best = one if _ratio(one.gain, best.gain) >= _GAIN else best
    kind = best.candidate.kind
    return Acceleration(
        kind=kind,
        reason=f"{TITLES[kind]}: {told[kind]}.",
        gain=best.gain,
        tolerance=best.candidate.tolerance,
        rows=rows,
        tried=tried,
        before=best.before,
        content=best.candidate.content,
    )


def _ratio(gain: tuple[float, float], other: tuple[float, float]) -> float:
    return math.sqrt(gain[0] / other[0] * gain[1] / other[1])


def _speed(gain: tuple[float, float]) -> str:
    one, many = (f"{times:.0f}x" if times >= 10 else f"{times:.1f}x" for times in gain)  # noqa: PLR2004 - two digits
    return f"{one} faster for one row, {many} for {_MANY}"


def _sameness(largest: float, asked: Asked, rows: int) -> str:
    if asked.prediction.dtype.kind == "f":
        return f"{'same numbers' if largest == 0 else f'numbers within {largest:.0e} of the largest'} on {rows:,} rows"
    near = "the same" if largest == 0 else f"within {largest:.0e}"
    return f"same labels on {rows:,} rows" + ("" if asked.probabilities is None else f", probabilities {near}")
