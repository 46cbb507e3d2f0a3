"""Ensembles: one model that combines the answers of several, of different kinds."""

from __future__ import annotations

from mlnb.registry.ensembles.ensemble import Ensemble

__all__ = ["Ensemble"]
