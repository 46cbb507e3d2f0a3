"""Panels for the notebook."""

from __future__ import annotations

from mlnb.widgets.panel import DeploymentPanel

__all__ = ["DeploymentPanel"]
