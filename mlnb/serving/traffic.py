"""Which version answers a request: shares of all keys, sticky, and changed by no more keys than must move."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from hashlib import _Hash

__all__ = ["Split", "checked_share", "checked_weights", "key_of", "key_text"]

_BYTES = 4
_SPACE = 256**_BYTES  # points that keys fall on

Slices = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Shares of the keys by version number.

    A key falls on a point of a line by its hash, and the line is cut into slices that versions own. New weights move
    just the points that some version has too many of: the least that can move (the total variation distance between
    the old shares and the new). The slices depend on the changes before, so they are recorded with each.

    Attributes
    ----------
    salt : str
        Lets models share out the same keys independently of one another.
    slices : tuple of (int, int)
        Where each slice ends, out of 2**32, and the version that owns it, in order.
    key : str or None
        The field whose value in the first row is the key of a request that names none.

    Examples
    --------
    >>> split = Split.of({3: 90, 4: 10}, salt="iris")
    >>> split.shares
    {3: 0.9, 4: 0.1}
    >>> split.choose(b"customer 8"), round(split.moved(split.changed({3: 80, 4: 20})), 6)
    (3, 0.1)
    """

    salt: str
    slices: Slices
    key: str | None = None
    _ends: list[int] = field(init=False, repr=False, compare=False)
    _hash: _Hash = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", [end for end, _ in self.slices])
        object.__setattr__(self, "_hash", blake2b(self.salt.encode() + b"\0", digest_size=_BYTES))

    def __reduce__(self) -> tuple[Any, ...]:
        return Split, (self.salt, self.slices, self.key)

    @classmethod
    def of(cls, weights: Mapping[int, float], *, salt: str, key: str | None = None) -> Split:
        """Share out a line that nobody owns yet.

        Parameters
        ----------
        weights : mapping of int to float
            By version number: finite, none negative, not all 0.
        salt : str
        key : str, optional
        """
        end, slices = 0, []
        for version, size in _sizes(weights).items():
            end += size
            slices.append((end, version))
        return cls(salt, _joined(slices), key)

    def changed(self, weights: Mapping[int, float], *, key: str | None = None) -> Split:
        """Return the split with other weights, in which as few points as possible have another owner."""
        wanted = _sizes(weights)
        excess = {version: size - wanted.get(version, 0) for version, size in self._owned().items()}
        missing = {version: size - self._owned().get(version, 0) for version, size in wanted.items()}
        missing = {version: size for version, size in missing.items() if size > 0}
        return Split(self.salt, _joined(_refill(_cut(self.slices, excess, set(missing)), missing)), key)

    @property
    def shares(self) -> dict[int, float]:
        """Return the part of all keys by version; they sum to 1."""
        return {version: round(size / _SPACE, 9) for version, size in self._owned().items()}

    def choose(self, key: bytes) -> int:
        """Return the version that answers a key: always the same, in every process."""
        digest = self._hash.copy()
        digest.update(key)
        return self.slices[bisect_right(self._ends, int.from_bytes(digest.digest(), "big"))][1]

    def moved(self, other: Split) -> float:
        """Return the part of all keys that meets another version by ``other``."""
        ends = sorted({0, *self._ends, *other._ends})
        moved = (end - start for start, end in pairwise(ends) if self._owner(start) != other._owner(start))
        return float(sum(moved) / _SPACE)

    def to_json(self) -> dict[str, Any]:
        """Return the form that the history keeps."""
        return {"slices": [list(one) for one in self.slices], "key": self.key}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], *, salt: str) -> Split:
        """Read that form."""
        return cls(salt, tuple((end, version) for end, version in stored["slices"]), stored.get("key"))

    def _owner(self, point: int) -> int:
        return self.slices[bisect_right(self._ends, point)][1]

    def _owned(self) -> dict[int, int]:
        owned: dict[int, int] = {}
        start = 0
        for end, version in self.slices:
            owned[version] = owned.get(version, 0) + end - start
            start = end
        return owned


def _sizes(weights: Mapping[int, float]) -> dict[int, int]:
    """Return how many points each version gets, by the largest remainder."""
    total = sum(map(Fraction, weights.values()))
    exact = {version: Fraction(weight) / total * _SPACE for version, weight in weights.items()}
    sizes = {version: math.floor(size) for version, size in exact.items()}
    short = _SPACE - sum(sizes.values())
    for version in sorted(exact, key=lambda one: (sizes[one] - exact[one], one))[:short]:
        sizes[version] += 1
    return {version: size for version, size in sizes.items() if size}


def _cut(slices: Slices, excess: Mapping[int, int], growing: set[int]) -> list[tuple[int, int | None]]:
    """Return the slices with what is too much of each version owned by None, where a growing neighbour takes it."""
    left = dict(excess)
    pieces: list[tuple[int, int | None]] = []
    for at in range(len(slices) - 1, -1, -1):
        end, version = slices[at]
        start = slices[at - 1][0] if at else 0
        freed = min(max(left[version], 0), end - start)
        left[version] -= freed
        below = at > 0 and slices[at - 1][1] in growing
        parts: list[tuple[int, int | None]] = (
            [(start + freed, None), (end, version)] if below else [(end - freed, version), (end, None)]
        )
        pieces[:0] = [piece for piece, size in zip(parts, _lengths(start, parts), strict=True) if size]
    return pieces


def _lengths(start: int, parts: list[tuple[int, int | None]]) -> list[int]:
    ends = [start, *(end for end, _ in parts)]
    return [after - before for before, after in pairwise(ends)]


def _refill(pieces: list[tuple[int, int | None]], missing: dict[int, int]) -> list[tuple[int, int]]:
    """Give what nobody owns to the versions that need it, to a neighbour first."""
    left = dict(missing)
    filled: list[tuple[int, int]] = []
    start = 0
    for at, (end, owner) in enumerate(pieces):
        if owner is not None:
            filled.append((end, owner))
            start = end
            continue
        near = [filled[-1][1]] if filled else []
        near += [after for _, after in pieces[at + 1 : at + 2] if after is not None]
        for version in [*(one for one in near if one in left), *sorted(left)]:
            taken = min(left.get(version, 0), end - start)
            if taken:
                start += taken
                left[version] -= taken
                filled.append((start, version))
    return filled


def _joined(slices: list[tuple[int, int]]) -> Slices:
    """Return neighbours of one owner as one."""
    joined: list[tuple[int, int]] = []
    for end, version in slices:
        if joined and joined[-1][1] == version:
            joined.pop()
        joined.append((end, version))
    return tuple(joined)


def checked_weights(weights: Mapping[str, Any]) -> dict[str, float]:
    """Return weights by name as numbers.

    Raises
    ------
    InvalidInputError
        If there are none, one is negative or no finite number, or all are 0.
    """
    form = 'Weights are numbers from 0 by version, as in {"champion": 90, "challenger": 10}'
    if not hasattr(weights, "items") or not weights:
        raise InvalidInputError(f"{form}; got {weights!r:.80}.")
    for name, weight in weights.items():
        if not _is_weight(weight):
            raise InvalidInputError(f"{form}; {name!r} has {weight!r:.40}.")
    if not any(weights.values()):
        raise InvalidInputError(f"{form}; all of these are 0, and somebody has to answer.")
    return {name: float(weight) for name, weight in weights.items()}


def _is_weight(given: Any) -> bool:
    if not isinstance(given, Real) or isinstance(given, bool):
        return False
    try:
        return 0 <= float(given) < math.inf
    except OverflowError:  # of a whole number
        return False


def checked_share(share: Any) -> float:
    """Return a part of the traffic, in percent.

    Raises
    ------
    InvalidInputError
        If it is no number above 0 and up to 100.
    """
    if not isinstance(share, Real) or isinstance(share, bool) or not 0 < float(share) <= 100:  # noqa: PLR2004 - percent
        raise InvalidInputError(f"share={share!r:.40}: a part of the traffic in percent is above 0 and at most 100.")
    return float(share)


def key_of(rows: Any, name: str, position: int) -> bytes | None:
    """Return the key that the first row has in a field, None if it has none.

    Parameters
    ----------
    rows : list of lists or dicts, ndarray or table
        As they came.
    name : str
    position : int
        Of the field among those of the model.
    """
    try:
        return key_text(_first(rows, name, position))
    except Exception:  # noqa: BLE001 - the signature will say what is wrong with the row
        return None


def _first(rows: Any, name: str, position: int) -> Any:
    if hasattr(rows, "columns"):
        column = rows[name]
        return column.iloc[0] if hasattr(column, "iloc") else column[0]
    row = rows if isinstance(rows, dict) or not isinstance(rows[0], (list, tuple, dict, np.ndarray)) else rows[0]
    return row[name] if isinstance(row, dict) else row[position]


def key_text(value: Any) -> bytes:
    """Return a key as bytes: the same number is the same key, whatever its type.

    Examples
    --------
    >>> key_text(17), key_text(17.0), key_text("17")
    (b'17', b'17', b'17')
    """
    for plain in ("as_py", "item"):  # of Arrow, of numpy
        value = getattr(value, plain)() if hasattr(value, plain) else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode(errors="surrogatepass")
