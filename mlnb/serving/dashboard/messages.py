"""What a dashboard is told each second: regions of HTML, and the figure's new values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlnb.monitoring.figures_dashboard import dashboard_data, dashboard_key, dashboard_spec
from mlnb.serving.codecs import to_json
from mlnb.serving.dashboard.regions import render_glance, render_regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.monitoring.view import MonitorView

__all__ = ["message"]


def message(
    views: Sequence[MonitorView], *, model: str | None = None, known: str = "", window: int = 300, owner: bool = False
) -> bytes:
    """Return what the page draws next, as JSON.

    Parameters
    ----------
    views : sequence of MonitorView
        All deployments that are looked at.
    model : str or None
        The one whose figure is open; None: the only one, or none of several.
    known : str
        Key of the figure that the page has already; its form is not sent again then.
    window : int
        Seconds that the views speak of, for the page's switch.
    owner : bool
        Whether the person who runs the models reads it: with the models' own words, and with values of the inputs.
    """
    chosen = views[0] if model is None and len(views) == 1 else next((one for one in views if one.name == model), None)
    document: dict[str, Any] = {
        "model": None if chosen is None else chosen.name,
        "window": window,
        "gone": model is not None and chosen is None,
        "regions": render_glance(views, chosen) | render_regions(chosen, owner=owner),
    }
    if chosen is not None:
        key = dashboard_key(chosen)
        document |= {"key": key, "data": dashboard_data(chosen)} | (
            {} if key == known else {"spec": dashboard_spec(chosen)}
        )
    return to_json(document)
