"""Reads how much of a machine is asked for."""

from __future__ import annotations

import re
from math import ceil
from numbers import Real
from typing import Any

from mlnb.errors import InvalidInputError

__all__ = ["bytes_of", "cores_of"]

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKMGT]i?|)B?\s*", re.ASCII)
_LEAST_CORES, _MOST_CORES = 0.01, 1024  # as Docker and Kubernetes count them
_LEAST_MEMORY = 64 * 2**20  # in less, Python and a model library do not start


def bytes_of(given: Any) -> int:
    """Return bytes.

    Parameters
    ----------
    given : int or str
        Bytes, or text with a unit: ``"512 MiB"``, ``"512Mi"``, ``"1.5 GB"``.

    Raises
    ------
    InvalidInputError
        If it is no amount of memory, or less than 64 MiB.

    Examples
    --------
    >>> bytes_of("512 MiB"), bytes_of("1.5GB")
    (536870912, 1500000000)
    """
    found = _AMOUNT.fullmatch(given) if isinstance(given, str) else None
    if found is not None:
        number, unit = found[1], found[2]
        size = ceil(float(number) * _UNITS[unit if unit.endswith("i") else unit.replace("K", "k")])
    elif isinstance(given, int) and not isinstance(given, bool):
        size = given
    else:
        raise InvalidInputError(f"memory={given!r:.60}: give bytes, or text such as '512 MiB' or '1.5 GB'.")
    if size < _LEAST_MEMORY:
        raise InvalidInputError(f"memory={given!r:.60} is too little for a model server; give '64 MiB' or more.")
    return size


def cores_of(given: Any) -> float:
    """Return cores.

    Raises
    ------
    InvalidInputError
        If it is no number above 0 and up to 1024.

    Examples
    --------
    >>> cores_of(0.5)
    0.5
    """
    if isinstance(given, Real) and not isinstance(given, bool):
        cores = float(given)
        if _LEAST_CORES <= cores <= _MOST_CORES:  # which NaN and infinity are not
            return cores
    raise InvalidInputError(f"cores={given!r:.60}: give a number from 0.01 to {_MOST_CORES}, for instance 0.5.")
