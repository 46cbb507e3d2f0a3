"""The forms that may be used for a model: by its own compiled code, and as an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlnb.errors import NotServableError
from mlnb.scaling.acceleration.forms import faster
from mlnb.scaling.acceleration.native import native_form, native_kind
from mlnb.scaling.acceleration.onnx_form import converted, onnx_form
from mlnb.scaling.acceleration.steps import kind_of, split

if TYPE_CHECKING:
    from mlnb.registry.predictors import Predictor

__all__ = ["TITLES", "Candidate", "candidate_of", "kinds_of"]

TITLES = {
    "trees": "Trees directly",
    "linear": "Plain numpy",
    "libsvm": "libsvm directly",
    "onnx": "ONNX Runtime",
}
"""What each kind of form is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A form of one model, ready to be asked.

    Attributes
    ----------
    kind : str
        A key of ``TITLES``.
    predictor : Predictor
    tolerance : float
        As a share of the largest answer.
    content : bytes
        The ONNX graph, if it is one.
    """

    kind: str
    predictor: Predictor
    tolerance: float
    content: bytes = b""


def kinds_of(model: Any) -> list[str]:
    """Return the kinds of form to try for a model, exact ones first."""
    kind = native_kind(split(model)[1])
    return ["onnx"] if kind is None else [kind, "onnx"]


def candidate_of(model: Any, kind: str, *, own: Predictor, content: bytes = b"", threads: int = 1) -> Candidate:
    """Return the form of one kind.

    Parameters
    ----------
    model : object
    kind : str
    own : Predictor
        Answers what the form cannot: the model itself, or an exact form.
    content : bytes
        The ONNX graph, where there is one already.
    threads : int
        That ONNX Runtime may use for one answer.

    Raises
    ------
    NotServableError
        If the model has no such form.
    MissingLibraryError
        If a library for it is not installed.
    """
    steps, last = split(model)
    if kind == "onnx":
        end = last.steps[-1][1] if kind_of(last) == "sklearn.pipeline.Pipeline" else last
        content = content or converted(last, end)
        form = onnx_form(content, end, threads=threads)
    elif kind != native_kind(last) or (form := native_form(last)) is None:  # type: ignore[assignment]  # narrowed here
        raise NotServableError(f"{type(last).__name__} has no such form with these parameters")
    return Candidate(kind=kind, predictor=faster(form, steps, own), tolerance=form.tolerance, content=content)
