"""Models at rest: references, versions, signatures, serializers, the store."""

from __future__ import annotations

from mlnb.registry.registry import ModelRegistry, ModelVersion

__all__ = ["ModelRegistry", "ModelVersion"]
