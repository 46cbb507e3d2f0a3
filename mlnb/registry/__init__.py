"""Models at rest: references, versions, signatures, serializers, the store."""

from __future__ import annotations

from mlnb.registry.registry import ModelRegistry
from mlnb.registry.version import ModelVersion

__all__ = ["ModelRegistry", "ModelVersion"]
