"""The OpenAPI description of the models that are served: their own fields, by name."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from mlnb.registry.rows.times import time_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.registry import ModelVersion
    from mlnb.registry.signature import Field, Signature

__all__ = ["paths_of"]

_JSON_TYPES = {"number": "number", "integer": "integer", "boolean": "boolean", "text": "string", "datetime": "string"}
_PROBLEMS = {
    "400": "The body is not what its content type says",
    "413": "More bytes or rows than one request may have",
    "415": "The body is of a content type that is not read",
    "422": "A row does not fit the model; the answer names row and field",
    "500": "The model itself failed",
}


def paths_of(versions: Iterable[ModelVersion]) -> dict[str, Any]:
    """Return the OpenAPI paths of the live versions; a single one also answers on the paths without its name."""
    live = list(versions)
    paths: dict[str, Any] = {}
    for version in live:
        base = f"/models/{version.name}"
        paths |= {
            f"{base}/predict": {"post": _predict(version)},
            f"{base}/feedback": {"post": _feedback(version)},
            f"{base}/info": {"get": _get(version, "What this model is and takes", "info")},
            f"{base}/stats": {"get": _get(version, "What it did: requests, errors, latency", "stats")},
        }
    if len(live) == 1:
        paths["/predict"] = {"post": _predict(live[0], suffix="_short")}
        paths["/model/info"] = {"get": _get(live[0], "What this model is and takes", "info_short")}
    return paths


def _predict(version: ModelVersion, *, suffix: str = "") -> dict[str, Any]:
    return {
        "tags": [version.name],
        "summary": f"Predict with {version.name}",
        "description": f"Version {version.number}, {version.model_type}. {version.description}".strip(),
        "operationId": f"predict_{version.name}{suffix}",
        "parameters": [
            {"name": "probabilities", "in": "query", "schema": {"type": "boolean", "default": False},
             "description": "Also return the probability of each class"},
            {"name": "X-Routing-Key", "in": "header", "schema": {"type": "string"},
             "description": "Where versions share the requests: the same key always meets the same version"},
        ],
        "requestBody": {"required": True, "content": _bodies(version.signature)},
        "responses": {
            "200": _response("The predictions", _answer(version)),
            **{status: _response(text, {"type": "object"}, media="problem+json") for status, text in _PROBLEMS.items()},
        },
    }  # fmt: skip


def _feedback(version: ModelVersion) -> dict[str, Any]:
    label = {} if version.signature.labels is None else {"enum": list(version.signature.labels)}
    one = {
        "type": "object",
        "required": ["request_id"],
        "properties": {
            "request_id": {"type": "string"},
            "label": label | {"description": "The right answer; of a request of several rows a list"},
            "outcome": {"type": "number", "description": "In the place of a label: how good the answer was"},
        },
    }
    many = {"type": "object", "required": ["feedback"], "properties": {"feedback": {"type": "array", "items": one}}}
    noted = {"type": "object", "properties": {"model": {"const": version.name}, "noted": {"type": "integer"}}}
    problems = {
        "404": "No request of that id is known",
        "409": "The request was labelled before",
        "422": "A label that the model does not know, or that does not fit the request",
    }
    return {
        "tags": [version.name],
        "summary": "What became of requests",
        "operationId": f"feedback_{version.name}",
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": [one, many]}}}},
        "responses": {
            "200": _response("How many requests it was about", noted),
            **{status: _response(text, {"type": "object"}, media="problem+json") for status, text in problems.items()},
        },
    }


def _get(version: ModelVersion, summary: str, operation: str) -> dict[str, Any]:
    return {
        "tags": [version.name],
        "summary": summary,
        "operationId": f"{operation}_{version.name}",
        "responses": {"200": _response(summary, {"type": "object"})},
    }


def _response(description: str, schema: dict[str, Any], *, media: str = "json") -> dict[str, Any]:
    return {"description": description, "content": {f"application/{media}": {"schema": schema}}}


def _bodies(signature: Signature) -> dict[str, Any]:
    """Return the content types that predict reads for this model."""
    binary = {
        "application/x-npy": "What numpy.save writes, of the shape (rows, fields)",
        "application/vnd.apache.arrow.stream": "A table as an Arrow IPC stream",
        "application/vnd.apache.arrow.file": "A table as an Arrow IPC file",
    }
    described = {
        media: {"schema": {"type": "string", "format": "binary", "title": title}} for media, title in binary.items()
    }
    if signature.container == "tensor":
        title = f"What numpy.save writes, of the shape (rows, {', '.join(map(str, signature.shape))})"
        schema = {"type": "string", "format": "binary", "title": title}
        return {"application/json": _body(signature), "application/x-npy": {"schema": schema}}
    return {"application/json": _body(signature), "text/csv": _csv(signature)} | described


def _csv(signature: Signature) -> dict[str, Any]:
    schema = {
        "type": "string",
        "title": "a line of field names in any order, then a line for each row; an empty cell is a missing value",
    }
    row = signature.example
    if row is None:
        return {"schema": schema}
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(row)
    lines.writerow("" if value is None else value for value in row.values())
    return {"schema": schema, "examples": {"one row": {"value": text.getvalue()}}}


def _body(signature: Signature) -> dict[str, Any]:
    row, values = _row(signature), _values(signature)
    rows = {"type": "array", "minItems": 1, "items": {"anyOf": [row, values]}}
    key = {"type": ["string", "number"], "description": "As X-Routing-Key"}
    schema = {
        "oneOf": [
            {"type": "object", "title": "many rows", "required": ["instances"],
             "properties": {"instances": rows, "key": key}},
            {"type": "object", "title": "one row", "required": ["features"],
             "properties": {"features": {"anyOf": [values, row]}, "key": key}},
        ]
    }  # fmt: skip
    example = signature.example
    if example is None:
        return {"schema": schema}
    bare = signature.container in ("texts", "tensor")  # its one value is the row
    plain = next(iter(example.values())) if bare else list(example.values())
    examples = {
        "named rows": {"value": {"instances": [example]}},
        "rows of values": {"value": {"instances": [plain]}},
        "one row": {"value": {"features": plain}},
    }
    return {"schema": schema, "examples": examples}


def _values(signature: Signature) -> dict[str, Any]:
    """Describe a row that comes without names."""
    if signature.container in ("texts", "tensor"):
        return _field(signature.fields[0], signature.shape) | {"title": f"a {signature.names[0]}"}
    count = len(signature.fields)
    values: dict[str, Any] = {"type": "array", "title": "values in order"}
    return values | {"minItems": count, "maxItems": count} if count else values


def _row(signature: Signature) -> dict[str, Any]:
    if not signature.fields:
        return {"type": "object", "title": "a row by name"}
    return {
        "type": "object",
        "title": "a row by name",
        "properties": {field.name: _field(field, signature.shape) for field in signature.fields},
        "required": list(signature.names),
        "additionalProperties": False,
    }


def _field(field: Field, shape: tuple[int, ...] = ()) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if (kind := _JSON_TYPES.get(field.kind)) is not None:
        described["type"] = [kind, "null"] if field.nullable else kind
    if field.kind == "datetime":
        described |= _time(field)
    if field.minimum is not None and field.maximum is not None:
        described["description"] = f"{field.minimum:.6g} to {field.maximum:.6g} in the example"
    if field.categories:
        described["enum"] = [*field.categories, *([None] if field.nullable else [])]
    for length in reversed(shape):
        described = {"type": "array", "minItems": length, "maxItems": length, "items": described}
    return described if field.example is None else described | {"examples": [field.example]}


def _time(field: Field) -> dict[str, Any]:
    dtype = time_dtype(field.dtype)
    if dtype.zone is not None:  # RFC 3339, which JSON Schema's format is, has an offset always
        return {"format": "date-time"}
    text = "A date in ISO 8601" if dtype.unit == "D" else "A date and time in ISO 8601, without a time zone"
    return {"description": text} | ({"format": "date"} if dtype.unit == "D" else {})


def _answer(version: ModelVersion) -> dict[str, Any]:
    item: dict[str, Any] = {} if version.signature.labels is None else {"enum": list(version.signature.labels)}
    return {
        "type": "object",
        "required": ["prediction", "model", "version", "request_id"],
        "properties": {
            "prediction": {"type": "array", "items": item},
            "model": {"const": version.name},
            "version": {"type": "integer"},
            "request_id": {"type": "string"},
            "probabilities": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "labels": {"type": "array", "items": item},
            "missing": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Members of an ensemble that failed",
            },
        },
    }
