"""Panels for the notebook."""

from __future__ import annotations

from mlnb.widgets.panel import DeploymentPanel
from mlnb.widgets.registry_panel import RegistryPanel

__all__ = ["DeploymentPanel", "RegistryPanel"]
