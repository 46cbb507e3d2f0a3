"""Class labels of several members brought into one order."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import NotServableError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["aligned", "joined", "places"]

Array = np.ndarray[Any, Any]

_NUMBERS, _TEXTS = "biuf", "US"


def joined(classes: Mapping[str, Array]) -> Array:
    """Return all labels that members know, sorted; one member's own array where all know the same.

    Parameters
    ----------
    classes : mapping of str to ndarray of shape (k,)
        By member.

    Raises
    ------
    NotServableError
        If the labels of two members cannot be compared, as text and numbers cannot, with both named.

    Examples
    --------
    >>> joined({"forest": np.array(["b", "a"]), "net": np.array(["c", "a"])}).tolist()
    ['a', 'b', 'c']
    """
    for (one, known), (other, others) in combinations(classes.items(), 2):
        if not _comparable(known, others):
            raise NotServableError(
                f"The labels of {one!r} ({_shown(known)}) and of {other!r} ({_shown(others)}) cannot be compared. "
                "Fit both on the same labels."
            )
    first = next(iter(classes.values()))
    union: Array = np.unique(np.concatenate(list(classes.values())))
    return first if np.array_equal(first, union) and first.dtype == union.dtype else union


def aligned(table: Array, known: Array, labels: Array) -> Array:
    """Return the columns of ``table`` in the order of ``labels``; a class that a member never saw has probability 0.

    Parameters
    ----------
    table : ndarray of shape (n, k)
    known : ndarray of shape (k,)
        The labels of its columns; all are among ``labels``.
    labels : ndarray of shape (classes,)
        Sorted.

    Returns
    -------
    ndarray of shape (n, classes)
        ``table`` itself where nothing is to be done, so that not even its layout in memory changes.

    Examples
    --------
    >>> aligned(np.array([[0.25, 0.75]]), np.array(["c", "a"]), np.array(["a", "b", "c"])).tolist()
    [[0.75, 0.0, 0.25]]
    """
    if np.array_equal(known, labels):
        return table
    wide = np.zeros((len(table), len(labels)), dtype=table.dtype)
    wide[:, np.searchsorted(labels, known)] = table
    return wide


def places(answers: Array, labels: Array) -> Array:
    """Return where in ``labels`` each answer is.

    Parameters
    ----------
    answers : ndarray of shape (n,)
    labels : ndarray of shape (classes,)
        Sorted.

    Raises
    ------
    ValueError
        With the first answer that is no label.

    Examples
    --------
    >>> places(np.array(["b", "a"]), np.array(["a", "b"])).tolist()
    [1, 0]
    """
    if len(answers) == 0:
        return np.zeros(0, dtype=np.intp)
    if not _comparable(answers, labels):
        raise ValueError(f"{answers.tolist()[0]!r} is none of the labels {_shown(labels)}")
    found: Array = np.minimum(np.searchsorted(labels, answers), len(labels) - 1)
    wrong = labels[found] != answers
    if wrong.any():
        raise ValueError(f"{answers[wrong].tolist()[0]!r} is none of the labels {_shown(labels)}")
    return found


def _comparable(one: Array, other: Array) -> bool:
    """Say whether numpy can sort both together; it would make text of numbers without a word."""
    kinds = one.dtype.kind, other.dtype.kind
    if all(kind in _NUMBERS for kind in kinds) or all(kind in _TEXTS for kind in kinds):
        return True
    if "O" not in kinds and kinds[0] != kinds[1]:
        return False
    try:
        np.sort(np.concatenate([one.astype(object), other.astype(object)]))
    except TypeError:
        return False
    return True


def _shown(labels: Array) -> str:
    few = [repr(label) for label in labels[:5].tolist()]
    return ", ".join(few) + (", .." if len(labels) > len(few) else "")
