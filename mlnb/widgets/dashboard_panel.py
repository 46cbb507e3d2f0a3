"""The notebook's live dashboard: sends each second what is looked at, and nothing else."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import traitlets

from mlnb.serving.dashboard import compressed_plotly, resource
from mlnb.serving.dashboard.messages import message
from mlnb.widgets.base import Panel, resources
from mlnb.widgets.ticker import ticker

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.widgets.ticker import Ticker
    from mlnb.workspace.dashboard import Dashboard

__all__ = ["DashboardPanel"]

# A page that looks says so every 5 seconds; a kernel that runs a cell hears it when the cell ends.
_LOOKED_AT = 900.0  # seconds that a page which says no more is kept up to date
_MOST_VIEWERS = 8


@dataclass(slots=True)
class _Viewer:
    """A page that looks."""

    model: str | None
    window: int
    known: str  # key of the figure that it has
    until: float


class DashboardPanel(Panel):
    """A dashboard in a cell's output.

    What it draws goes to the page by messages of its own, which no notebook stores: the widget's state stays as small
    as it is. Nobody looks, nothing is done: it stops when the cell is cleared, scrolled away or in a hidden tab.

    Parameters
    ----------
    dashboard : Dashboard
    told : Ticker, optional
        What tells it each second; default: that of all panels.

    Attributes
    ----------
    dashboard : Dashboard
        May be replaced by another one of the same models.
    """

    _esm = traitlets.Unicode(
        resource("board.js") + "\n" + resources("sending.js", "load_plotly.js", "dashboard.js")
    ).tag(sync=True)
    _css = traitlets.Unicode(resources("shared.css") + resource("board.css") + resources("dashboard.css")).tag(
        sync=True
    )

    chosen = traitlets.Unicode(help="The model whose figure is open at first").tag(sync=True)
    seconds = traitlets.Unicode(help="The window that is shown at first").tag(sync=True)

    def __init__(self, dashboard: Dashboard, *, told: Ticker = ticker) -> None:
        self.dashboard = dashboard
        self._told = told
        self._looking = threading.RLock()
        self._viewers: dict[str, _Viewer] = {}
        self._unsubscribe: Callable[[], None] | None = None
        super().__init__("the dashboard", chosen=dashboard.name or "", seconds=str(dashboard.window))

    @property
    def looked_at(self) -> bool:
        """Whether it draws."""
        return bool(self._viewers)

    def refresh(self) -> None:
        """Send what happened to every page that looks."""
        now = time.monotonic()
        with self._looking:
            self._viewers = {name: one for name, one in self._viewers.items() if now < one.until}
            if not self._viewers:
                self._stop()
                return
            viewers = dict(self._viewers)
            views = {window: self.dashboard.views(window=window) for window in {one.window for one in viewers.values()}}
            for name, one in viewers.items():
                self._tell(name, message(
                    views[one.window], model=one.model, known=one.known, window=one.window, owner=True,
                ))  # fmt: skip

    def close(self) -> None:
        """Stop drawing and free the widget; what it shows goes on."""
        with self._looking:
            self._viewers.clear()
            self._stop()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        still = self.dashboard._repr_mimebundle_()
        return {key: value for key, value in data.items() if key not in still and key != "text/html"} | still, metadata

    def _deed(self, action: str, payload: dict[str, Any]) -> Callable[[], None] | None:
        deeds: dict[str, Callable[[], None]] = {
            "look": lambda: self._look(payload),
            "plotly": lambda: self.send({"kind": "plotly"}, buffers=[compressed_plotly()]),
        }
        return deeds[action]

    def _look(self, payload: dict[str, Any]) -> None:
        with self._looking:
            before = self._viewers.pop(str(payload["viewer"]), None)
            if not payload["looked_at"] or self.closed:
                return
            while len(self._viewers) >= _MOST_VIEWERS:
                del self._viewers[next(iter(self._viewers))]
            one = _Viewer(
                model=payload["model"], window=int(payload["window"]), known=str(payload["known"]),
                until=time.monotonic() + _LOOKED_AT,
            )  # fmt: skip
            self._viewers[str(payload["viewer"])] = one
            if self._unsubscribe is None:
                self._unsubscribe = self._told.subscribe(self.refresh)
        if before is None or (before.model, before.window) != (one.model, one.window):
            self.refresh()

    def _tell(self, viewer: str, drawn: bytes) -> None:
        with self._lock:
            if not self._closed:
                self.send({"kind": "board", "viewer": viewer}, buffers=[drawn])

    def _stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
