"""How an ensemble combines its members, checked before anybody is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import InvalidInputError, NotServableError, nearest
from mlnb.registry.ensembles.labels import joined
from mlnb.registry.serializers import type_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.registry.ensembles.members import Member
    from mlnb.registry.signature import Output

__all__ = ["STACKING", "Plan", "checked_plan"]

Array = np.ndarray[Any, Any]

_COMBINE = ("vote", "mean", "weighted", "median", "cascade")
STACKING = "stacking"
_WEIGHTED = ("vote", "weighted")
_LABELS_ONLY, _NUMBERS_ONLY = ("vote", "cascade"), ("median",)
_OF_CHANCES = ("mean", "weighted", "cascade")
_THRESHOLD = 0.9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """How an ensemble combines its members.

    Attributes
    ----------
    combine : {'vote', 'mean', 'weighted', 'median', 'cascade', 'stacking'}
    output : {'class', 'number', 'any'}
        ``any`` where a final estimator does not say.
    weights : tuple of float or None
        In the members' order.
    quorum : int or None
        How many members must answer; None for all.
    threshold : float or None
        Of a cascade.
    labels : ndarray of shape (classes,) or None
        The order of the columns that a member gives who does not name them.
    classes : ndarray of shape (classes,) or None
        All labels, sorted; None for numbers.
    """

    combine: str
    output: Output
    weights: tuple[float, ...] | None = None
    quorum: int | None = None
    threshold: float | None = None
    labels: Array | None = None
    classes: Array | None = None


def checked_plan(
    members: Sequence[Member],
    *,
    combine: str,
    output: Output | None,
    weights: Any = None,
    quorum: Any = None,
    threshold: Any = None,
    labels: Any = None,
) -> Plan:
    """Return the plan, or refuse what cannot be combined so.

    Parameters
    ----------
    members : sequence of Member
    combine : str
    output : {'class', 'number', 'any'} or None
        Of the final estimator; None without one.
    weights, quorum, threshold, labels
        As a person gave them.

    Raises
    ------
    InvalidInputError
        If a setting is out of bounds, or does not go with ``combine``.
    NotServableError
        If the members do not go together, or one cannot give what is combined.
    """
    if combine != STACKING and combine not in _COMBINE:
        raise InvalidInputError(f"combine={combine!r}: {nearest(combine, _COMBINE)}; or give a model, for stacking.")
    _check_goes_with(combine, weights=weights, quorum=quorum, threshold=threshold)
    order = None if labels is None else _checked_labels(labels)
    kind = output or _output(members, combine=combine, labelled=order is not None)
    _check_widths(members)
    if kind == "class" and combine in _OF_CHANCES:
        _check_chances(members, combine)
    return Plan(
        combine=combine,
        output=kind,
        weights=None if weights is None else _checked_weights(weights, [member.name for member in members]),
        quorum=None if quorum is None else _checked_quorum(quorum, len(members)),
        threshold=_checked_threshold(threshold) if combine == "cascade" else None,
        labels=order,
        classes=_classes(members, order, needed=combine != STACKING) if kind == "class" or output else None,
    )


def _check_goes_with(combine: str, *, weights: Any, quorum: Any, threshold: Any) -> None:
    if weights is not None and combine not in _WEIGHTED:
        raise InvalidInputError(f"weights go with combine='weighted' or 'vote', not with {combine!r}.")
    if threshold is not None and combine != "cascade":
        raise InvalidInputError(f"threshold goes with combine='cascade', not with {combine!r}.")
    if quorum is not None and combine == STACKING:
        raise InvalidInputError(
            "A quorum does not go with stacking: the final estimator needs every member's answer. Leave quorum out."
        )


def _checked_weights(weights: Any, names: Sequence[str]) -> tuple[float, ...]:
    """Return weights in the members' order."""
    given = weights.tolist() if isinstance(weights, np.ndarray) else weights
    if isinstance(given, Mapping):
        _check_names(given, names)
        given = [given[name] for name in names]
    if not isinstance(given, (list, tuple)) or len(given) != len(names):
        raise InvalidInputError(
            f"weights are one number for each of the members {', '.join(names)}; got {_brief(weights)}."
        )
    for name, weight in zip(names, given, strict=True):
        if not isinstance(weight, Real) or not math.isfinite(weight) or weight < 0:
            raise InvalidInputError(f"The weight of {name!r} must be a finite number from 0, not {weight!r:.80}.")
    if not any(given):
        raise InvalidInputError("The weights are all 0; give one member at least a weight above it.")
    return tuple(float(weight) for weight in given)


def _check_names(given: Iterable[str], names: Sequence[str]) -> None:
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InvalidInputError(f"weights name {unknown[0]!r}, who is no member; {nearest(str(unknown[0]), names)}.")
    missing = [name for name in names if name not in given]
    if missing:
        raise InvalidInputError(f"weights lack {missing[0]!r}; give one for each of {', '.join(names)}.")


def _checked_quorum(quorum: Any, count: int) -> int:
    if isinstance(quorum, bool) or not isinstance(quorum, int) or not 1 <= quorum <= count:
        raise InvalidInputError(
            f"quorum is how many members must answer, a whole number from 1 to {count}; got {quorum!r:.80}."
        )
    return quorum


def _checked_threshold(threshold: Any) -> float:
    if threshold is None:
        return _THRESHOLD
    if isinstance(threshold, bool) or not isinstance(threshold, Real) or not 0 < float(threshold) <= 1:
        raise InvalidInputError(
            f"threshold is the probability from which the next member is not asked, above 0 and at most 1; "
            f"got {threshold!r:.80}."
        )
    return float(threshold)


def _checked_labels(labels: Any) -> Array:
    given = np.asarray(labels)
    try:
        distinct = len(np.unique(given)) == len(given)
    except TypeError:
        distinct = False
    if given.ndim != 1 or not len(given) or not distinct or _made_text(given, labels):
        raise InvalidInputError(f"labels are the classes, each once and all of one kind; got {_brief(labels)}.")
    return given


def _made_text(given: Array, labels: Any) -> bool:
    """Say whether numpy made text of labels that were none."""
    return given.dtype.kind == "U" and not all(isinstance(label, str) for label in labels)


def _output(members: Sequence[Member], *, combine: str, labelled: bool) -> Output:
    """Return what members and their combination are: labels or numbers."""
    of_labels = next((member for member in members if member.output == "class"), None)
    of_numbers = next((member for member in members if member.output == "number"), None)
    if of_labels and of_numbers:
        raise NotServableError(
            f"{of_labels.name!r} is a classifier and {of_numbers.name!r} a regressor: labels and numbers cannot be "
            "combined. Take members of one kind, or stack them: combine=LogisticRegression()."
        )
    if combine in _LABELS_ONLY and of_numbers:
        raise NotServableError(
            f"combine={combine!r} is for classifiers, and {of_numbers.name!r} is a regressor: 'mean', 'weighted' and "
            "'median' combine numbers."
        )
    if combine in _NUMBERS_ONLY and (of_labels or labelled):
        who = f"{of_labels.name!r} is a classifier" if of_labels else "labels are of classifiers"
        raise NotServableError(
            f"combine={combine!r} is for regressors, and {who}: 'vote', 'mean', 'weighted' and 'cascade' combine "
            "labels."
        )
    return "class" if of_labels or labelled or combine in _LABELS_ONLY else "number"


def _check_widths(members: Sequence[Member]) -> None:
    """Refuse members that take all columns, of which there cannot be two numbers."""
    widths = {member.width: member for member in members if member.width and not member.columns}
    if len(widths) > 1:
        (one, first), (other, second) = list(widths.items())[:2]
        raise NotServableError(
            f"{first.name!r} takes {one} columns and {second.name!r} takes {other}, neither by name. Fit members of "
            "different columns on DataFrames, then each is given its own."
        )


def _check_chances(members: Sequence[Member], combine: str) -> None:
    for member in members:
        if member.output == "class" and member.answers.probabilities is None:
            raise NotServableError(
                f"combine={combine!r} needs probabilities, and {member.name!r}, a {type_name(member.model)}, has no "
                "predict_proba. Combine by 'vote', or give it some (scikit-learn: CalibratedClassifierCV)."
            )


def _classes(members: Sequence[Member], labels: Array | None, *, needed: bool) -> Array | None:
    """Return all labels: those that were given, else those that members know."""
    known = {member.name: member.classes for member in members if member.classes is not None}
    if labels is not None:
        ordered = joined({"labels": labels})
        for name, classes in known.items():
            _check_known(name, classes, ordered)
        return ordered
    if not known and needed:
        raise NotServableError(
            "No member says which classes there are. Name them in the order of the members' columns: labels=[..]."
        )
    return joined(known) if known else None


def _check_known(name: str, classes: Array, labels: Array) -> None:
    union = joined({"labels": labels, name: classes})
    if len(union) > len(labels):
        more = [label for label in classes.tolist() if label not in labels.tolist()]
        raise InvalidInputError(f"Member {name!r} knows the label {more[0]!r}, which labels lacks; name all labels.")


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"  # noqa: PLR2004 - fits a line
