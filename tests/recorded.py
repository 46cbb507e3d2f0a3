"""Version records that no registry wrote, for what only draws or encodes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mlnb import ModelVersion
from mlnb.registry.signature import Signature
from mlnb.registry.version import StoredFile


def recorded(*, signature: Signature, size: int = 0, **changes: Any) -> ModelVersion:
    """Return a version with this signature and some plain record."""
    fields: dict[str, Any] = {
        "name": "iris",
        "number": 3,
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "metrics": {},
        "description": "",
        "model_type": "Forest",
        "format": "cloudpickle",
        "files": (StoredFile("model.pickle", "ab" * 32, size),),
        "signature_digest": "cd" * 32,
        "golden_digest": None,
        "parameters": {},
        "environment": {"python": "3.11.7", "machine": "x86_64", "packages": {}},
        "lineage": {},
        "read_signature": lambda _: signature,
    }
    return ModelVersion(**fields | changes)
