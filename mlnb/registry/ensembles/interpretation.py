"""What a member's answer means: votes, probabilities of all classes, or numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import NotServableError
from mlnb.registry.ensembles.combining import is_distribution
from mlnb.registry.ensembles.labels import aligned, places

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.registry.ensembles.members import Member
    from mlnb.registry.ensembles.plan import Plan

__all__ = ["chances", "features", "numbers", "question", "votes"]

Array = np.ndarray[Any, Any]

_TABLE = 2  # axes


def question(member: Member, plan: Plan) -> Callable[[Any], Array]:
    """Return what a member is asked under a plan, from rows to ``(n, ...)``."""
    if plan.combine == "vote" or (plan.output == "number" and plan.combine != "stacking"):
        return member.answers.predict
    if member.answers.probabilities is not None:
        return member.answers.probabilities
    if plan.combine == "stacking" and hasattr(member.model, "decision_function"):
        return lambda rows: np.asarray(member.model.decision_function(rows))
    return member.answers.predict


def votes(member: Member, answer: Array, plan: Plan) -> Array:
    """Return the class each row was given, as its place in the plan's classes, ``(n,)``.

    Raises
    ------
    NotServableError
        If the answer has no labels, or one that nobody named.
    """
    classes, order = _labels(plan)
    flat = _flat(answer)
    if flat.ndim == _TABLE and member.classes is None and flat.shape[1] == len(order):
        return np.asarray(places(order, classes)[flat.argmax(axis=1)])
    if flat.ndim != 1:
        raise NotServableError(
            f"Member {member.name!r} answers with the shape {answer.shape}; to vote it gives one label for each row, "
            f"or one column for each of the {len(order)} classes."
        )
    try:
        return places(flat, classes)
    except ValueError as error:
        raise NotServableError(f"Member {member.name!r}: {error}. Name all of them: labels=[..].") from None


def chances(member: Member, answer: Array, plan: Plan) -> Array:
    """Return the probability of each of the plan's classes, ``(n, classes)``.

    Raises
    ------
    NotServableError
        If the answer is no table of probabilities.
    """
    classes, order = _labels(plan)
    known = order if member.classes is None else member.classes
    fits = answer.ndim == _TABLE and answer.shape[1] == len(known)
    if fits and (member.answers.probabilities is not None or is_distribution(answer)):
        return aligned(answer, known, classes)
    what = "rows that are no probabilities" if fits else f"the shape {answer.shape}"
    raise NotServableError(
        f"Member {member.name!r} answers with {what}; needed is a probability for each of the classes "
        f"{', '.join(map(repr, known[:10].tolist()))}, in that order, that add up to 1. End a module with Softmax, or "
        "combine by 'vote'."
    )


def numbers(member: Member, answer: Array, plan: Plan) -> Array:  # noqa: ARG001 - as its siblings
    """Return one number for each row, ``(n,)``, or a row of them.

    Raises
    ------
    NotServableError
        If the answer is none.
    """
    if answer.dtype.kind not in "biuf":
        raise NotServableError(
            f"Member {member.name!r} answers with {answer.dtype} values; numbers can be combined, and labels by 'vote'."
        )
    return _flat(answer)


def features(member: Member, answer: Array, plan: Plan) -> tuple[Array, bool]:
    """Return what a final estimator sees of a member, and whether it is probabilities.

    Raises
    ------
    NotServableError
    """
    if member.answers.probabilities is not None:
        both_known = member.classes is not None and plan.classes is not None
        return (chances(member, answer, plan) if both_known else answer), True
    if answer.dtype.kind not in "biuf" and plan.classes is not None:
        return votes(member, answer, plan), False
    return numbers(member, answer, plan), False


def _labels(plan: Plan) -> tuple[Array, Array]:
    """Return the classes, and in which order they are the columns of a member that does not name them."""
    assert plan.classes is not None  # noqa: S101 - for the type checker: plans of labels have them
    return plan.classes, plan.classes if plan.labels is None else plan.labels


def _flat(answer: Array) -> Array:
    return answer.ravel() if answer.ndim == _TABLE and answer.shape[1] == 1 else answer
