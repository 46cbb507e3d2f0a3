"""Model names and the references ``name``, ``name:3`` and ``name@alias``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlnb.errors import InvalidNameError

__all__ = ["ModelReference", "is_valid_name", "ranges", "validate_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_RULE = "letters, digits, '.', '_' and '-', at most 63, starting with a letter or digit"


def is_valid_name(name: str) -> bool:
    """Say whether ``name`` may name a model or an alias.

    Examples
    --------
    >>> is_valid_name("iris-2"), is_valid_name("../iris"), is_valid_name("")
    (True, False, False)
    """
    return _NAME.fullmatch(name) is not None


def validate_name(name: str, *, what: str = "model name") -> str:
    """Return ``name`` if it is valid.

    Raises
    ------
    InvalidNameError
        With the rule, so that no name can leave the store.
    """
    if isinstance(name, str) and is_valid_name(name):
        return name
    raise InvalidNameError(f"{name!r} is not a valid {what}: use {_RULE}.")


@dataclass(frozen=True, slots=True)
class ModelReference:
    """One model, or one version of it by number or alias; neither means the newest version.

    Examples
    --------
    >>> ModelReference.parse("iris:3")
    ModelReference(name='iris', number=3, alias=None)
    >>> str(ModelReference.parse("iris@champion"))
    'iris@champion'
    """

    name: str
    number: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Read ``name``, ``name:number`` or ``name@alias``.

        Raises
        ------
        InvalidNameError
            If a part is missing or malformed.
        """
        name, separator, rest = re.fullmatch(r"([^:@]*)([:@]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]  # it matches any text
        validate_name(name)
        if separator == "@":
            return cls(name, alias=validate_name(rest, what="alias"))
        if separator == ":":
            if re.fullmatch(r"[0-9]{1,8}", rest) is None or int(rest) == 0:
                raise InvalidNameError(f"{text!r}: the version after ':' must be a whole number from 1, not {rest!r}.")
            return cls(name, number=int(rest))
        return cls(name)

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.name}:{self.number}"
        return f"{self.name}@{self.alias}" if self.alias is not None else self.name


def ranges(numbers: list[int]) -> str:
    """Shorten whole numbers to runs.

    Examples
    --------
    >>> ranges([1, 2, 3, 5])
    '1-3, 5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)
