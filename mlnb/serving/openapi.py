"""The OpenAPI description of the models that are served: their own fields, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.registry import ModelVersion
    from mlnb.registry.signature import Field, Signature

__all__ = ["paths_of"]

_JSON_TYPES = {"number": "number", "integer": "integer", "boolean": "boolean", "text": "string"}
_PROBLEMS = {
    "400": "The body is not JSON",
    "413": "More bytes or rows than one request may have",
    "415": "The body is not JSON by its content type",
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
             "description": "Also return the probability of each class"}
        ],
        "requestBody": {"required": True, "content": {"application/json": _body(version.signature)}},
        "responses": {
            "200": _response("The predictions", _answer(version)),
            **{status: _response(text, {"type": "object"}, media="problem+json") for status, text in _PROBLEMS.items()},
        },
    }  # fmt: skip


def _get(version: ModelVersion, summary: str, operation: str) -> dict[str, Any]:
    return {
        "tags": [version.name],
        "summary": summary,
        "operationId": f"{operation}_{version.name}",
        "responses": {"200": _response(summary, {"type": "object"})},
    }


def _response(description: str, schema: dict[str, Any], *, media: str = "json") -> dict[str, Any]:
    return {"description": description, "content": {f"application/{media}": {"schema": schema}}}


def _body(signature: Signature) -> dict[str, Any]:
    row = _row(signature)
    values: dict[str, Any] = {"type": "array", "title": "values in order"}
    if signature.fields:
        values |= {"minItems": len(signature.fields), "maxItems": len(signature.fields)}
    schema = {
        "oneOf": [
            {"type": "object", "title": "many rows", "required": ["instances"],
             "properties": {"instances": {"type": "array", "minItems": 1, "items": {"anyOf": [row, values]}}}},
            {"type": "object", "title": "one row", "required": ["features"],
             "properties": {"features": {"anyOf": [values, row]}}},
        ]
    }  # fmt: skip
    example = signature.example
    if example is None:
        return {"schema": schema}
    examples = {
        "named rows": {"value": {"instances": [example]}},
        "rows of values": {"value": {"instances": [list(example.values())]}},
        "one row": {"value": {"features": list(example.values())}},
    }
    return {"schema": schema, "examples": examples}


def _row(signature: Signature) -> dict[str, Any]:
    if not signature.fields:
        return {"type": "object", "title": "a row by name"}
    return {
        "type": "object",
        "title": "a row by name",
        "properties": {field.name: _field(field) for field in signature.fields},
        "required": list(signature.names),
        "additionalProperties": False,
    }


def _field(field: Field) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if (kind := _JSON_TYPES.get(field.kind)) is not None:
        described["type"] = [kind, "null"] if field.nullable else kind
    if field.minimum is not None and field.maximum is not None:
        described["description"] = f"{field.minimum:.6g} to {field.maximum:.6g} in the example"
    if field.categories:
        described["enum"] = list(field.categories)
    return described if field.example is None else described | {"examples": [field.example]}


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
        },
    }
