from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pandas as pd
import polars as pl
import pytest
from reading import read
from recorded import recorded

from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature
from mlnb.serving.codecs import MEDIA_TYPES
from mlnb.serving.openapi import paths_of

FRAME = pd.DataFrame(
    {
        "age, in years": [41.5, None],
        "plan": pd.Categorical(["free", "paid"]),
        "stage": pd.Categorical([1, None]),
        "at": pd.DatetimeIndex(["2026-01-31T12:00:00", "NaT"]),
        "seen": pd.DatetimeIndex(["2026-01-31T12:00:00", "2026-02-01"]).tz_localize("Europe/Berlin"),
    }
)
EXAMPLES: dict[str, Any] = {
    "array": np.array([[0.5, 1.5]]),
    "frame": FRAME,
    "polars": pl.DataFrame({"n": [1], "at": [datetime(2026, 1, 31, tzinfo=UTC)]}),
    "texts": ["good, really", "bad"],
    "tensor": np.zeros((2, 2, 3)),
    "any": None,
}


def content(signature: Signature) -> dict[str, Any]:
    version = recorded(signature=signature)
    paths = paths_of([version])
    bodies: dict[str, Any] = paths[f"/models/{version.name}/predict"]["post"]["requestBody"]["content"]
    return dict(orjson.loads(orjson.dumps(bodies)))


@pytest.mark.parametrize("container", EXAMPLES)
def test_every_example_of_every_content_type_is_read(container: str) -> None:
    signature = infer_signature(None, EXAMPLES[container])
    assert signature.container == container
    described = content(signature)
    assert set(described) == ({"application/json", "application/x-npy"} if container == "tensor" else set(MEDIA_TYPES))
    for media, body in described.items():
        for example in body.get("examples", {}).values():
            value = example["value"]
            sent = value.encode() if isinstance(value, str) else orjson.dumps(value)
            assert len(read(media, sent, signature).rows) == 1


def test_a_row_of_csv_is_shown_with_its_header() -> None:
    text = content(infer_signature(None, FRAME))["text/csv"]["examples"]["one row"]["value"]
    assert text == '"age, in years",plan,stage,at,seen\n41.5,free,1,2026-01-31T12:00:00,2026-01-31T11:00:00Z\n'


def fields(signature: Signature) -> dict[str, Any]:
    many = content(signature)["application/json"]["schema"]["oneOf"][0]["properties"]["instances"]["items"]["anyOf"]
    return dict(many[0]["properties"])


def test_fields_of_a_frame() -> None:
    described = fields(infer_signature(None, FRAME))
    assert described["age, in years"]["type"] == ["number", "null"]
    assert described["plan"] == {"type": "string", "enum": ["free", "paid"], "examples": ["free"]}
    assert described["stage"] == {"type": ["integer", "null"], "enum": [1, None], "examples": [1]}
    assert described["at"]["type"] == ["string", "null"]
    assert described["at"]["description"] == "A date and time in ISO 8601, without a time zone"
    assert described["seen"] == {"type": "string", "format": "date-time", "examples": ["2026-01-31T11:00:00Z"]}
    days = fields(infer_signature(None, np.array([["2026-01-31"]], dtype="datetime64[D]")))
    assert days["x0"]["format"] == "date"


def test_a_tensor_and_a_text() -> None:
    tensor = fields(infer_signature(None, np.zeros((2, 2, 3))))["tensor"]
    assert (tensor["type"], tensor["minItems"], tensor["items"]["maxItems"]) == ("array", 2, 3)
    assert tensor["items"]["items"]["type"] == "number"
    assert fields(infer_signature(None, ["good"]))["text"] == {"type": "string", "examples": ["good"]}
