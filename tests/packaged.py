"""What is packaged, without a registry."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mlnb.packaging.subject import PackagedModel

_IRIS = PackagedModel(
    name="iris", number=3, digest="ab" * 32, created=datetime(2026, 1, 1, tzinfo=UTC), description="first",
    model_type="sklearn.linear_model.LogisticRegression", python="3.11", requirements=("scikit-learn==1.9.0",),
    size=800,
)  # fmt: skip


def packaged(**changes: Any) -> PackagedModel:
    """Return version 3 of a model of irises."""
    return replace(_IRIS, **changes)
