"""What deployments did, live in a notebook, as a Plotly figure, or as a picture that stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError, NotDeployedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlnb.monitoring.view import MonitorView
    from mlnb.workspace.deployment import Deployment

__all__ = ["Dashboard"]

_WINDOWS = (300, 3600)  # seconds


class Dashboard:
    """What one deployment did, or all of this process.

    :func:`mlnb.monitor` makes it. Where mlnb's extension is loaded, a cell shows it live; the notebook keeps the
    picture of the moment when the cell ran.

    Parameters
    ----------
    name : str, optional
        Of the one deployment; without it, all at a glance, and the figure of the one that is chosen.
    deployments : callable
        Returns the one, or those that there are.
    window : int
        Seconds that are shown at first: 300, in seconds, or 3600, in minutes.

    Raises
    ------
    InvalidInputError
        If there is no such window.
    """

    def __init__(
        self, name: str | None = None, *, deployments: Callable[[], Iterable[Deployment]], window: int = 300
    ) -> None:
        self.name = name
        self.window = _checked(window)
        self._deployments = deployments

    def __repr__(self) -> str:
        from mlnb.monitoring.dashboard_svg import figures_of

        lines = [f"  {view.name} v{view.version} {view.state}: {figures_of(view)}" for view in self.views()]
        return "\n".join([f"<Dashboard of {self.name or 'all models'}>", *lines])

    def view(self, *, window: int | None = None) -> MonitorView:
        """Return all that is drawn of the one deployment.

        Parameters
        ----------
        window : int, optional
            Seconds: 300 or 3600. Default: the dashboard's own.

        Raises
        ------
        NotDeployedError
            If there is none any more, or there are several to choose from.
        InvalidInputError
            If there is no such window.
        """
        shown = list(self._deployments())
        if len(shown) != 1:
            names = ", ".join(one.name for one in shown) or "nothing is deployed"
            raise NotDeployedError(f"Name one model, as in mlnb.monitor(NAME); there are: {names}.")
        return shown[0].view(window=self.window if window is None else _checked(window))

    def views(self, *, window: int | None = None) -> tuple[MonitorView, ...]:
        """Return all that is drawn, by deployment.

        Parameters
        ----------
        window : int, optional
            Seconds: 300 or 3600. Default: the dashboard's own.
        """
        seconds = self.window if window is None else _checked(window)
        return tuple(one.view(window=seconds) for one in self._deployments())

    def figure(self) -> Any:
        """Return the Plotly figure of the one deployment, as it is now.

        Returns
        -------
        plotly.graph_objects.Figure

        Raises
        ------
        NotDeployedError
            If there are several to choose from.
        MissingLibraryError
            If plotly is not installed.
        """
        from mlnb.monitoring.figures_dashboard import dashboard_figure

        return dashboard_figure(self.view())

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from mlnb.monitoring.dashboard_svg import dashboard_svg, overview_svg

        views = self.views()
        picture = dashboard_svg(views[0]) if len(views) == 1 else overview_svg(views)
        return {"image/svg+xml": picture, "text/plain": repr(self)}


def _checked(window: int) -> int:
    if window not in _WINDOWS:
        raise InvalidInputError(f"window={window!r:.40}: 300 or 3600 seconds are shown.")
    return window
