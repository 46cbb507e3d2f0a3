"""The dashboard: one page in a browser, and what the notebook's panel shares with it.

What draws is in ``messages`` and ``regions``: a server imports them when somebody looks.
"""

from __future__ import annotations

from mlnb.serving.dashboard.pages import add_dashboard, compressed_plotly, page, resource

__all__ = ["add_dashboard", "compressed_plotly", "page", "resource"]
