"""The frameworks' own formats: none runs code of whoever wrote the file, but torch-export, which says so."""

from __future__ import annotations

from mlnb.registry.frameworks.boosting import LightGBMSerializer, XGBoostSerializer
from mlnb.registry.frameworks.onnx import OnnxModel, OnnxSerializer
from mlnb.registry.frameworks.skops import SkopsSerializer
from mlnb.registry.frameworks.torch_export import TorchExportSerializer

__all__ = [
    "LightGBMSerializer",
    "OnnxModel",
    "OnnxSerializer",
    "SkopsSerializer",
    "TorchExportSerializer",
    "XGBoostSerializer",
]
