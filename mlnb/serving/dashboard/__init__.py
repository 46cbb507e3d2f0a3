"""The dashboard: one page in a browser, and what the notebook's panel shares with it."""

from __future__ import annotations

from mlnb.serving.dashboard.messages import message
from mlnb.serving.dashboard.pages import add_dashboard, compressed_plotly, page, resource

__all__ = ["add_dashboard", "compressed_plotly", "message", "page", "resource"]
