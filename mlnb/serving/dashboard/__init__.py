"""The dashboard: one page in a browser, and what the notebook's panel shares with it."""

from __future__ import annotations

from mlnb.serving.dashboard.messages import message
from mlnb.serving.dashboard.pages import add_dashboard, compressed_plotly, page, resource
from mlnb.serving.dashboard.regions import render_regions

__all__ = ["add_dashboard", "compressed_plotly", "message", "page", "render_regions", "resource"]
