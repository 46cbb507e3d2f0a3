"""The Open Inference Protocol v2 over REST: requests to rows, answers to tensors, in JSON and in binary.

https://github.com/kserve/open-inference-protocol and, for what goes binary,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import json
import struct
from array import array as flat_array
from dataclasses import dataclass
from importlib.metadata import version as package_version
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mlnb.errors import InvalidInputError, MalformedBodyError, TooLargeError, nearest
from mlnb.registry.rows.columns import NUMERIC, is_missing, listed, shown, storage
from mlnb.serving.answers import numbers_of
from mlnb.serving.codecs import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlnb.registry import ModelVersion
    from mlnb.registry.signature import Field, Signature

__all__ = ["InferRequest", "model_metadata", "read_infer", "server_metadata", "write_infer"]

PREDICT, PROBABILITIES = "predict", "predict_proba"

_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}
_DATATYPES = {dtype: name for name, dtype in _DTYPES.items()}
_KINDS = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "any": "FP64"}  # all else goes as text
_WIDEST: dict[str, tuple[str, type]] = {  # of each of numpy's kinds, for array.array and for numpy
    "f": ("d", np.float64), "i": ("q", np.int64), "u": ("Q", np.uint64), "b": ("q", np.int64),
}  # fmt: skip
_PYTHON = {bool: "BOOL", int: "INT64", float: "FP64"}
_OUTPUTS = {"class": "BYTES", "number": "FP64", "cluster": "INT64", "outlier": "INT64", "any": "FP64"}
_ENCODED = ("base64", "pd_json")  # MLServer's content types for bytes that are not the text itself
_MOST_AXES = 32
_LONGEST_AXIS = 2**31 - 1
_MOST_NAMED_CELLS = 10**7  # of a model of which nothing is known: as many as JSON could have
_LENGTH = struct.Struct("<I")
_SEND = 'send {"inputs": [{"name": .., "shape": [rows, ..], "datatype": "FP64", "data": [..]}]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """Rows, and how their answer is wanted.

    Attributes
    ----------
    id : str or None
        The client's own, which the answer repeats.
    rows : ndarray or list
        What :meth:`Signature.coerce` takes: an array where all values are of one type of numbers, else lists, or
        dicts where nothing is known of the model.
    probabilities : bool
        Whether any output needs them.
    outputs : tuple of {'predict', 'predict_proba'}
        In the order of the answer.
    binary : frozenset of str
        The outputs that go as raw bytes behind the JSON.
    """

    id: str | None
    rows: Any
    probabilities: bool
    outputs: tuple[str, ...]
    binary: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An input as it is described; ``data`` is JSON's list, or the raw bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | memoryview

    def __str__(self) -> str:
        return f"The tensor {self.name[:80]!r}"

    @property
    def count(self) -> int:
        return prod(self.shape)


def server_metadata() -> dict[str, Any]:
    """Return what ``GET /v2`` says."""
    return {"name": "mlnb", "version": package_version("mlnb"), "extensions": ["binary_tensor_data"]}


def model_metadata(version: ModelVersion, *, versions: Sequence[str]) -> dict[str, Any]:
    """Return what ``GET /v2/models/{name}`` says: the tensors of a version, as far as its signature knows them.

    Parameters
    ----------
    version : ModelVersion
    versions : sequence of str
        All that can be asked.
    """
    return {
        "name": version.name,
        "versions": list(versions),
        "platform": f"{version.model_type.partition('.')[0].lower()}_{version.format}",
        "inputs": _inputs(version.signature),
        "outputs": _outputs(version.signature),
    }


def read_infer(body: bytes, *, header_length: int | None, signature: Signature, max_rows: int) -> InferRequest:
    """Return the request of a body of ``POST /v2/models/{name}/infer``.

    The rows are one tensor ``[rows, features]`` of any name (of a model of texts ``[rows]``, of tensors
    ``[rows, *shape]``), or a tensor ``[rows]`` or ``[rows, 1]`` for each field, named as the fields are.

    Parameters
    ----------
    body : bytes
    header_length : int or None
        How many bytes of it are JSON, where raw tensors follow; None where all are.
    signature : Signature
        Tells which tensors to expect.
    max_rows : int

    Raises
    ------
    MalformedBodyError
        If it is no JSON, or its parts have other sizes than it says; nothing is allocated before.
    TooLargeError
        If it has too many rows.
    InvalidInputError
        If its tensors are not the model's, or it asks for outputs that there are not.

    Examples
    --------
    >>> from mlnb.registry.rows.inference import infer_signature
    >>> body = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [3, 4]}]}'
    >>> read_infer(body, header_length=None, signature=infer_signature(None, [[0.5, 0.5]]), max_rows=10).rows
    array([[3, 4]])
    """
    document, raw = _split(body, header_length)
    parameters = _parameters(document)
    probabilities = _flag(parameters, "probabilities")
    outputs, binary = _wanted(document, probabilities=probabilities, binary=_flag(parameters, "binary_data_output"))
    tensors = _tensors(document, raw)
    _check_rows(tensors, max_rows)
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InvalidInputError(f"'id' is text, not {shown(identity)}.")
    return InferRequest(
        id=identity or None,
        rows=_rows(tensors, signature),
        probabilities=PROBABILITIES in outputs,
        outputs=outputs,
        binary=binary,
    )


def write_infer(
    *,
    request: InferRequest,
    model: str,
    version: int,
    request_id: str,
    prediction: np.ndarray[Any, Any],
    probabilities: np.ndarray[Any, Any] | None,
    labels: Sequence[Any] | None,
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and how many bytes of it are JSON where raw tensors follow, else None.

    Parameters
    ----------
    request : InferRequest
    model : str
    version : int
    request_id : str
        The answer's ``id`` where the client gave none, else among its parameters.
    prediction : ndarray of shape (n, ...)
    probabilities : ndarray of shape (n, classes) or (n, outputs, classes), or None
    labels : sequence or None
        The classes in the order of the probabilities; they go along as a JSON text, for parameters are plain values.
    """
    arrays = {PREDICT: prediction, PROBABILITIES: probabilities}
    written: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name in request.outputs:
        array = arrays[name]
        assert array is not None, name  # noqa: S101 - it was asked for
        described, data = _output(name, array, binary=name in request.binary)
        if name == PROBABILITIES and labels is not None:
            described["parameters"] = described.get("parameters", {}) | {"labels": to_json(labels).decode()}
        written.append(described)
        raw.append(data)
    document = {"model_name": model, "model_version": str(version), "id": request.id or request_id}
    parameters = {"parameters": {"request_id": request_id}} if request.id else {}
    header = to_json(document | parameters | {"outputs": written})
    return (header + b"".join(raw), len(header)) if request.binary else (header, None)


# ---- metadata ----


def _inputs(signature: Signature) -> list[dict[str, Any]]:
    if not signature.fields:
        return [_described("input-0", "FP64", -1, -1)]
    datatypes = [_datatype(field) for field in signature.fields]
    if signature.container in ("texts", "tensor"):
        return [_described(signature.names[0], datatypes[0], -1, *signature.shape)]
    if not signature.named and len(set(datatypes)) == 1:
        return [_described("input-0", datatypes[0], -1, len(datatypes))]
    return [_described(name, datatype, -1, 1) for name, datatype in zip(signature.names, datatypes, strict=True)]


def _outputs(signature: Signature) -> list[dict[str, Any]]:
    labels = signature.labels or ()
    kinds = {type(label) for label in labels}
    datatype = _PYTHON.get(kinds.pop(), "BYTES") if len(kinds) == 1 else _OUTPUTS[signature.output]
    predict = _described(PREDICT, datatype, -1)
    if not signature.probabilities:
        return [predict]
    return [predict, _described(PROBABILITIES, "FP64", -1, len(labels) or -1)]


def _described(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _datatype(field: Field) -> str:
    dtype = None if field.categories else storage(field.dtype)
    return _KINDS.get(field.kind, "BYTES") if dtype is None else _DATATYPES.get(dtype, "FP64")


# ---- the request's parts ----


def _split(body: bytes, header_length: int | None) -> tuple[dict[str, Any], memoryview]:
    """Return the JSON of a body, and the bytes behind it."""
    length = len(body) if header_length is None else header_length
    if not 0 <= length <= len(body):
        raise MalformedBodyError(
            f"Inference-Header-Content-Length says {length:,} bytes of JSON; the body has {len(body):,}.",
            given=length, accepted=len(body),
        )  # fmt: skip
    return _parse(body[:length]), memoryview(body)[length:]


def _parse(text: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        document = _lenient(text, error)
    if not isinstance(document, dict):
        raise InvalidInputError(f"The body is {shown(document)}; {_SEND}.")
    return document


def _lenient(text: bytes, strict: orjson.JSONDecodeError) -> Any:
    """Read the NaN and Infinity that JSON lacks and many clients write."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedBodyError(f"The body is not JSON: {strict}; {_SEND}.") from None


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidInputError(f"'parameters' is an object, not {shown(parameters)}.")
    return parameters


def _flag(parameters: dict[str, Any], name: str, *, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInputError(f"The parameter {name!r} is true or false, not {shown(value)}.")
    return value


def _listed(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return a list of objects with names, each another."""
    found = document.get(key)
    if not found:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InvalidInputError(f"{key!r} is a list of objects, not {shown(found)}; {_SEND}.")
    names = [one.get("name") for one in found]
    if not all(isinstance(name, str) for name in names):
        raise InvalidInputError(f"Each of {key!r} has a 'name', a text; {_SEND}.")
    if len(set(names)) != len(names):
        raise InvalidInputError(f"Two of {key!r} have one name; there are: {listed([name[:80] for name in names])}.")
    return found


def _wanted(document: dict[str, Any], *, probabilities: bool, binary: bool) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the outputs asked for, and which of them as raw bytes."""
    asked = _listed(document, "outputs")
    forms = {one["name"]: _is_binary(one, default=binary) for one in asked} or {PREDICT: binary}
    for name in forms:
        if name not in (PREDICT, PROBABILITIES):
            raise InvalidInputError(
                f"There is no output {name[:80]!r}; {nearest(name[:80], [PREDICT, PROBABILITIES])}.",
                accepted=[PREDICT, PROBABILITIES],
            )
    if probabilities:
        forms.setdefault(PROBABILITIES, binary)
    return tuple(forms), frozenset(name for name, as_bytes in forms.items() if as_bytes)


def _is_binary(output: dict[str, Any], *, default: bool) -> bool:
    parameters = _parameters(output)
    if parameters.get("classification"):
        raise InvalidInputError(
            f"'classification' is not among the extensions here; ask for the output {PROBABILITIES!r}."
        )
    return _flag(parameters, "binary_data", default=default)


# ---- tensors, as they are described ----


def _tensors(document: dict[str, Any], raw: memoryview) -> list[_Tensor]:
    """Return the inputs, each with its data, whose size is what the shape says as far as that is seen at once."""
    inputs = _listed(document, "inputs")
    if not inputs:
        raise InvalidInputError(f"There are no 'inputs'; {_SEND}.")
    tensors, start = [], 0
    for one in inputs:
        size = _binary_size(one)
        tensors.append(_tensor(one, None if size is None else raw[start : start + size]))
        start += size or 0
    if start != len(raw):
        raise MalformedBodyError(
            f"The inputs have a 'binary_data_size' of {shown(start)} bytes together; {len(raw)} follow the JSON. Is "
            "the header Inference-Header-Content-Length its length?", given=len(raw),
        )  # fmt: skip
    return tensors


def _binary_size(one: dict[str, Any]) -> int | None:
    size = _parameters(one).get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidInputError(f"'binary_data_size' is a number of bytes, not {shown(size)}.", field=one["name"][:80])
    return size


def _tensor(one: dict[str, Any], raw: memoryview | None) -> _Tensor:
    name, where = one["name"], f"The tensor {one['name'][:80]!r}"
    content = _parameters(one).get("content_type")
    if content in _ENCODED:
        raise InvalidInputError(f"{where} is encoded as {content}; send the values themselves.", field=name[:80])
    data = one.get("data") if raw is None else raw
    if not isinstance(data, (list, memoryview)) or (raw is not None and one.get("data") is not None):
        raise InvalidInputError(
            f"{where} has either a list of 'data', or a 'binary_data_size' among its parameters and its bytes behind "
            f"the JSON; got {shown(one.get('data'))}. {_SEND}.", field=name[:80],
        )  # fmt: skip
    tensor = _Tensor(name, _known_datatype(where, one), _shape(where, one), data)
    if raw is not None:
        _check_size(tensor, len(raw))
    return tensor


def _known_datatype(where: str, one: dict[str, Any]) -> str:
    datatype = one.get("datatype")
    if isinstance(datatype, str) and datatype in _DTYPES:
        return datatype
    hint = "send FP32" if datatype == "BF16" else f"there are: {', '.join(_DTYPES)}"
    raise InvalidInputError(f"{where} has the datatype {shown(datatype)}, which is not read; {hint}.",
                            field=one["name"][:80], accepted=list(_DTYPES))  # fmt: skip


def _shape(where: str, one: dict[str, Any]) -> tuple[int, ...]:
    shape = one.get("shape")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= _MOST_AXES
        or not all(type(length) is int and 0 < length <= _LONGEST_AXIS for length in shape)
    ):
        raise InvalidInputError(
            f"{where} has the shape {shown(shape)}; it is a list of 1 to {_MOST_AXES} lengths, rows first, each from 1 "
            f"to {_LONGEST_AXIS:,}.", field=one["name"][:80],
        )  # fmt: skip
    return tuple(shape)


def _check_size(tensor: _Tensor, size: int) -> None:
    """Refuse raw bytes that are not as many as the shape and datatype need; of BYTES, the lengths alone are known."""
    text = tensor.datatype == "BYTES"
    needed = tensor.count * (_LENGTH.size if text else _DTYPES[tensor.datatype].itemsize)
    if size < needed or (size > needed and not text):
        raise MalformedBodyError(
            f"{tensor} of the shape {shown(list(tensor.shape))} and {tensor.datatype} has {'at least ' * text}"
            f"{shown(needed)} bytes; {size} came behind the JSON, whose length is the header "
            "Inference-Header-Content-Length.", field=tensor.name[:80],
        )  # fmt: skip


def _check_rows(tensors: list[_Tensor], max_rows: int) -> None:
    rows = max(tensor.shape[0] for tensor in tensors)
    if rows > max_rows:
        raise TooLargeError(
            f"{rows:,} rows in one request; at most {max_rows:,}. Send them in parts.", given=rows, accepted=max_rows
        )


# ---- tensors to rows ----


def _rows(tensors: list[_Tensor], signature: Signature) -> Any:
    if len(tensors) == 1 and _is_whole(tensors[0], signature):
        return _matrix(tensors[0], signature)
    if signature.container in ("texts", "tensor"):
        raise _unfit(tensors, signature)
    ordered = _by_field(tensors, signature)
    rows = tensors[0].shape[0]
    if any(tensor.shape not in ((rows,), (rows, 1)) for tensor in tensors):
        raise _unfit(tensors, signature)
    return _joined([_values(tensor) for tensor in ordered], signature, [tensor.name for tensor in ordered])


def _is_whole(tensor: _Tensor, signature: Signature) -> bool:
    """Say whether one tensor has the shape of all that the model takes."""
    if signature.container == "tensor":
        return tensor.shape[1:] == signature.shape
    if not signature.fields:
        return True
    return tensor.shape[1:] == (len(signature.fields),) or (len(signature.fields) == 1 and len(tensor.shape) == 1)


def _unfit(tensors: list[_Tensor], signature: Signature) -> InvalidInputError:
    given = listed([f"{tensor.name[:80]!r} {list(tensor.shape)}"[:200] for tensor in tensors])
    if signature.container in ("texts", "tensor"):
        needed = f"one tensor of the shape [{listed(['rows', *signature.shape])}]"
    else:
        needed = f"one tensor of the shape [rows, {len(signature.fields)}], or one of [rows] or [rows, 1] for each of "
        needed += f"{listed(signature.names)}, with as many rows" if signature.fields else "its features"
    return InvalidInputError(f"The inputs are {given}; the model takes {needed}.", accepted=signature.names)


def _by_field(tensors: list[_Tensor], signature: Signature) -> list[_Tensor]:
    """Return the tensors in the order of the model's fields."""
    if not signature.fields:
        if len(tensors) * tensors[0].shape[0] > _MOST_NAMED_CELLS:
            raise TooLargeError(f"Over {_MOST_NAMED_CELLS:,} values by name; send one tensor, or parts.")
        return tensors
    known = {tensor.name: tensor for tensor in tensors}
    if len(tensors) == 1 and not known.keys() <= signature.plan.known:
        raise _unfit(tensors, signature)
    if unknown := [name for name in known if name not in signature.plan.known]:
        name = unknown[0][:80]
        raise InvalidInputError(f"There is no field {name!r}; {nearest(name, signature.names)}.", field=name)
    if missing := [name for name in signature.names if name not in known]:
        raise InvalidInputError(
            f"The inputs lack a tensor for {missing[0]!r}; needed are: {listed(signature.names)}.", field=missing[0]
        )
    return [known[name] for name in signature.names]


def _matrix(tensor: _Tensor, signature: Signature) -> Any:
    values, shape = _values(tensor), tensor.shape
    if len(shape) == 1 and signature.container not in ("texts", "any"):
        shape = (*shape, 1)
    shaped = values.reshape(shape)
    return shaped.tolist() if values.dtype == object else np.asarray(shaped, order=signature.order)


def _joined(columns: list[np.ndarray[Any, Any]], signature: Signature, names: list[str]) -> Any:
    dtypes = {column.dtype for column in columns}
    if len(dtypes) == 1 and columns[0].dtype.kind in NUMERIC and signature.plan.dtype is not None:
        return np.asarray(np.stack(columns, axis=1), order=signature.order)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return list(map(list, rows)) if signature.fields else [dict(zip(names, row, strict=True)) for row in rows]


# ---- tensors to values ----


def _values(tensor: _Tensor) -> np.ndarray[Any, Any]:
    """Return the values one after the other, the model's own to write to: numbers in the native type, else objects."""
    if not isinstance(tensor.data, list):
        return _objects(_texts(tensor, tensor.data)) if tensor.datatype == "BYTES" else _unpacked(tensor, tensor.data)
    flat = _flat(tensor, tensor.data)
    return _objects(_checked_texts(tensor, flat)) if tensor.datatype == "BYTES" else _numbers(tensor, flat)


def _unpacked(tensor: _Tensor, data: memoryview) -> np.ndarray[Any, Any]:
    dtype = _DTYPES[tensor.datatype]
    if dtype.kind == "b":
        return np.not_equal(np.frombuffer(data, dtype=np.uint8), 0)  # a byte of 2 is neither true nor false to numpy
    return np.frombuffer(data, dtype=dtype).astype(dtype.newbyteorder("="))


def _texts(tensor: _Tensor, data: memoryview) -> list[str]:
    """Return the texts of a BYTES tensor: each is its length in four bytes, and then UTF-8."""
    texts, at = [], 0
    for place in range(tensor.count):
        start = at + _LENGTH.size
        at = start + (_LENGTH.unpack_from(data, at)[0] if start <= len(data) else 0)
        if at > len(data) or start > len(data):
            raise MalformedBodyError(f"{tensor} ends within its element {place}.", field=tensor.name[:80])
        texts.append(_decoded(tensor, place, data[start:at]))
    if at != len(data):
        raise MalformedBodyError(
            f"{tensor} has {tensor.count:,} elements in {at:,} bytes; {len(data):,} came.", field=tensor.name[:80]
        )
    return texts


def _decoded(tensor: _Tensor, place: int, data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{tensor} has bytes that are no UTF-8 text in its element {place}.",
                                field=tensor.name[:80]) from None  # fmt: skip


def _flat(tensor: _Tensor, data: list[Any]) -> list[Any]:
    """Return the data of JSON, flat or nested as the shape says, as one list."""
    if len(tensor.shape) > 1 and data and isinstance(data[0], list):
        for inner in tensor.shape[1:]:
            if not all(isinstance(part, list) and len(part) == inner for part in data):
                raise _miscounted(tensor, "lists in lists of other lengths")
            data = list(chain.from_iterable(data))
    if len(data) != tensor.count:
        raise _miscounted(tensor, f"{len(data):,} values")
    return data


def _miscounted(tensor: _Tensor, given: str) -> InvalidInputError:
    return InvalidInputError(
        f"{tensor} has the shape {shown(list(tensor.shape))}, which are {shown(tensor.count)} values, and {given} in "
        "'data'.", field=tensor.name[:80],
    )  # fmt: skip


def _checked_texts(tensor: _Tensor, values: list[Any]) -> list[Any]:
    for place, value in enumerate(values):
        if value is not None and type(value) is not str:
            raise _misfit(tensor, place, value)
    return values


def _numbers(tensor: _Tensor, values: list[Any]) -> np.ndarray[Any, Any]:
    """Return numbers rounded as their datatype says; a null is NaN, or among whole numbers None."""
    dtype = _DTYPES[tensor.datatype].newbyteorder("=")
    wide = _widest(values, dtype.kind)
    if wide is not None:
        return _narrowed(tensor, wide, dtype)
    checked = [_number(tensor, dtype, place, value) for place, value in enumerate(values)]
    if dtype.kind == "f":
        return _narrowed(tensor, np.array(checked, dtype=np.float64), dtype)
    return _objects(checked) if None in checked else np.array(checked, dtype=dtype)


def _widest(values: list[Any], kind: str) -> np.ndarray[Any, Any] | None:
    """Return the values in the widest type of their kind, None if they are not all such numbers.

    array.array refuses what numpy would take (text) or round (a fraction for a whole number), and is faster.
    """
    typecode, dtype = _WIDEST[kind]
    try:
        return np.frombuffer(flat_array(typecode, values), dtype=dtype)
    except (TypeError, OverflowError):
        return None


def _number(tensor: _Tensor, dtype: np.dtype[Any], place: int, value: Any) -> Any:
    """Return one value as Python's own, or say why it is none."""
    if value is None:
        return float("nan") if dtype.kind == "f" else None
    if isinstance(value, float) and dtype.kind == "f":
        return value
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    low, high = _limits(dtype)
    if not whole or not low <= value <= high:
        raise _misfit(tensor, place, value)
    return {"f": float, "b": bool}.get(dtype.kind, int)(value)


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the whole numbers between which all can be converted."""
    if dtype.kind == "b":
        return 0, 1
    most = int(np.finfo(np.float64).max)
    return (-most, most) if dtype.kind == "f" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def _narrowed(tensor: _Tensor, wide: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if wide.dtype == dtype:
        return wide
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype)
    fits = np.isfinite(narrow) | ~np.isfinite(wide) if dtype.kind == "f" else narrow == wide
    if not fits.all():
        place = int(np.argmin(fits))
        raise _misfit(tensor, place, wide[place])
    return narrow


def _misfit(tensor: _Tensor, place: int, value: object) -> InvalidInputError:
    row = place // (tensor.count // tensor.shape[0])
    return InvalidInputError(
        f"{tensor}, row {row}: got {shown(value)}, which is no value of the datatype {tensor.datatype}.",
        row=row, field=tensor.name[:80], given=shown(value), accepted=tensor.datatype,
    )  # fmt: skip


def _objects(values: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


# ---- answers ----


def _output(name: str, array: np.ndarray[Any, Any], *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """Return how an output is described, with its values if they are JSON, and its raw bytes if not."""
    numbers = numbers_of(array)
    datatype = "BYTES" if numbers is None else _DATATYPES[numbers.dtype.newbyteorder("<")]
    described = _described(name, datatype, *array.shape)
    flat = _texts_of(array) if numbers is None else numbers.ravel().astype(numbers.dtype.newbyteorder("="))
    if not binary:
        return described | {"data": flat}, b""
    raw = _packed(flat) if isinstance(flat, list) else flat.astype(flat.dtype.newbyteorder("<")).tobytes()
    return described | {"parameters": {"binary_data_size": len(raw)}}, raw


def _texts_of(array: np.ndarray[Any, Any]) -> list[str | None]:
    values = (np.datetime_as_string(array) if array.dtype.kind == "M" else array).ravel().tolist()
    return [None if is_missing(value) else str(value) for value in values]


def _packed(texts: Iterable[str | None]) -> bytes:
    encoded = [(text or "").encode(errors="replace") for text in texts]
    return b"".join(chain.from_iterable((_LENGTH.pack(len(text)), text) for text in encoded))
