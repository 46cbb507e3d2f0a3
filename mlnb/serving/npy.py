"""Bodies of ``application/x-npy``: numpy's own format, read without unpickling and without believing its header."""

from __future__ import annotations

import io
import sys
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from mlnb.errors import InvalidInputError, MalformedBodyError, TooLargeError

if TYPE_CHECKING:
    from mlnb.registry.signature import Signature

__all__ = ["read_npy"]

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_KINDS = "fiubUM"  # numbers, booleans, text, times
_SEND = "send what numpy.save writes for an array of numbers, booleans, text or datetime64"


def read_npy(body: bytes, signature: Signature, *, max_rows: int) -> Any:
    """Return the array of an ``.npy`` body, laid out in memory as the signature says; texts as nested lists.

    Raises
    ------
    MalformedBodyError
        If it is none, holds Python objects, or has another size than its header says; nothing is allocated before.
    TooLargeError
        If it has too many rows.
    InvalidInputError
        If it has more texts than the model's fields and the rows make.
    """
    shape, in_columns, dtype, start = _header(body)
    needed, given = prod(shape) * dtype.itemsize, len(body) - start
    if needed != given:
        raise MalformedBodyError(
            f"The npy header says shape {shape} of {dtype}, which are {needed:,} bytes; {given:,} follow. "
            "Was the body cut?"
        )
    if shape and shape[0] > max_rows and (len(shape) > 1 or signature.container == "texts"):
        raise TooLargeError(
            f"{shape[0]:,} rows in one request; at most {max_rows:,}. Send them in parts.",
            given=shape[0], accepted=max_rows,
        )  # fmt: skip
    array = np.ndarray(shape, dtype, buffer=body, offset=start, order="F" if in_columns else "C")
    if dtype.kind == "U":
        characters = np.ndarray(
            given // 4, np.dtype(np.uint32).newbyteorder(dtype.byteorder), buffer=body, offset=start
        )
        return _texts(array, characters, max_rows * max(1, len(signature.fields)))
    if dtype.kind == "b":
        array = array.view(np.uint8) != 0  # a byte of 2 is neither true nor false to numpy
    return np.array(array, dtype=dtype.newbyteorder("="), order=signature.order)  # writable, unlike the body


def _header(body: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    stream = io.BytesIO(body)
    try:
        shape, in_columns, dtype = _HEADERS[npy.read_magic(stream)](stream)
    except Exception:  # noqa: BLE001 - numpy's reader fails in many ways on a header made to make it fail
        raise MalformedBodyError(f"The body is no npy array of version 1 or 2; {_SEND}.") from None
    if dtype.hasobject:
        raise MalformedBodyError(f"The array holds Python objects, and nothing is unpickled here; {_SEND}.")
    if dtype.kind not in _KINDS or dtype.itemsize == 0 or len(shape) > 32 or any(length < 0 for length in shape):  # noqa: PLR2004 - axes
        raise MalformedBodyError(f"The array is one of {str(dtype)[:80]} with {len(shape)} axes; {_SEND}.")
    return shape, in_columns, dtype, stream.tell()


def _texts(array: np.ndarray[Any, Any], characters: np.ndarray[Any, Any], most: int) -> Any:
    if array.size > most:
        raise InvalidInputError(f"The array has the shape {array.shape}, over {most:,} texts.", accepted=most)
    if characters.size and characters.max() > sys.maxunicode:  # numpy fails badly on them
        raise MalformedBodyError(f"The array has text that is no Unicode; {_SEND}.")
    return array.tolist()
