"""Records as JSON that carries its own SHA-256, so that one flipped bit in a record is found too."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from mlnb.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["is_sealed", "seal", "unseal"]

_SEAL = b',"sha256":"'
_TAIL = 64 + len('"}')  # of the hexadecimal digest and what closes it


def seal(record: Mapping[str, Any]) -> bytes:
    """Return the record as JSON whose last member is the SHA-256 of the JSON without it.

    Examples
    --------
    >>> seal({"version": 3})[:24]
    b'{"version":3,"sha256":"9'
    >>> unseal(seal({"version": 3}), where="here")
    {'version': 3}
    """
    body = orjson.dumps(record)
    return body[:-1] + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}'


def is_sealed(content: bytes) -> bool:
    """Say whether the content ends as a sealed record does, whether or not its digest is right."""
    return content[-len(_SEAL) - _TAIL : -_TAIL] == _SEAL


def unseal(content: bytes, *, where: str) -> dict[str, Any]:
    """Return the record.

    Raises
    ------
    IntegrityError
        If its bytes are not those that were sealed, naming ``where``.
    """
    body, tail = content[: -len(_SEAL) - _TAIL] + b"}", content[-_TAIL:]
    if is_sealed(content) and tail == hashlib.sha256(body).hexdigest().encode() + b'"}':
        record: dict[str, Any] = orjson.loads(body)
        return record
    raise IntegrityError(f"{where} is damaged: its SHA-256 is not that of its contents. Restore the file.")
