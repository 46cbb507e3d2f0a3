"""How IPython shows a deployment: as its live panel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from mlnb.monitoring.experiment import Experiment
    from mlnb.monitoring.load.result import BenchmarkResult
    from mlnb.widgets import DeploymentPanel
    from mlnb.widgets.dashboard_panel import DashboardPanel
    from mlnb.workspace import Deployment
    from mlnb.workspace.dashboard import Dashboard

__all__ = ["DeploymentDisplay"]

_DEPLOYMENT = "mlnb.workspace.deployment.Deployment"  # by name, so that %load_ext does not import it
_DASHBOARD = "mlnb.workspace.dashboard.Dashboard"
_BENCHMARK = "mlnb.monitoring.load.result.BenchmarkResult"
_EXPERIMENT = "mlnb.monitoring.experiment.Experiment"


class DeploymentDisplay:
    """Shows each deployment as one panel, however often it is displayed, or as one line where no panel is wanted."""

    def __init__(self) -> None:
        self._panels: WeakKeyDictionary[Deployment, DeploymentPanel] = WeakKeyDictionary()
        self._plain: WeakSet[Deployment] = WeakSet()
        self._dashboards: dict[tuple[str | None, int], DashboardPanel] = {}  # by what they show

    def register(self, shell: InteractiveShell) -> None:
        """Let ``shell`` show deployments this way."""
        _formatter(shell).for_type(_DEPLOYMENT, self._mimebundle)
        _formatter(shell).for_type(_DASHBOARD, self._dashboard)
        _displayer(shell).for_type(_BENCHMARK, _show_benchmark)
        _displayer(shell).for_type(_EXPERIMENT, _show_experiment)

    @staticmethod
    def unregister(shell: InteractiveShell) -> None:
        """Let ``shell`` show deployments as text again, and close the panels."""
        _displayer(shell).pop(_BENCHMARK, None)
        _displayer(shell).pop(_EXPERIMENT, None)
        _formatter(shell).pop(_DASHBOARD, None)
        formatter = _formatter(shell).pop(_DEPLOYMENT, None)
        if formatter is not None:
            formatter.__self__.close()

    def prefer(self, deployment: Deployment, *, panel: bool) -> None:
        """Choose between the panel and one line."""
        (self._plain.discard if panel else self._plain.add)(deployment)

    def panel_of(self, deployment: Deployment) -> DeploymentPanel:
        """Return the panel of a deployment; the first time loads ipywidgets."""
        from mlnb.widgets import DeploymentPanel

        panel = self._panels.get(deployment)
        if panel is None or panel.closed:
            panel = self._panels[deployment] = DeploymentPanel(deployment)
        panel.refresh()
        return panel

    def close(self) -> None:
        """Close all panels."""
        for panel in [*self._panels.values(), *self._dashboards.values()]:
            panel.close()

    def _mimebundle(self, deployment: Deployment, **_: Any) -> Any:
        if deployment in self._plain:
            return {"text/plain": repr(deployment)}
        return self.panel_of(deployment)._repr_mimebundle_()

    def _dashboard(self, dashboard: Dashboard, **_: Any) -> Any:
        """Show a dashboard live; the first time loads ipywidgets."""
        from mlnb.widgets.dashboard_panel import DashboardPanel

        shown = (dashboard.name, dashboard.window)
        panel = self._dashboards.get(shown)
        if panel is None or panel.closed:
            panel = self._dashboards[shown] = DashboardPanel(dashboard)
        panel.dashboard = dashboard
        return panel._repr_mimebundle_()


def _formatter(shell: InteractiveShell) -> Any:
    assert shell.display_formatter is not None  # noqa: S101 - for the type checker: a shell has one
    return shell.display_formatter.mimebundle_formatter


def _displayer(shell: InteractiveShell) -> Any:
    assert shell.display_formatter is not None  # noqa: S101 - for the type checker: a shell has one
    return shell.display_formatter.ipython_display_formatter


def _show_benchmark(result: BenchmarkResult) -> None:
    """Show the chart and the table below it: a cell's one result would be only the first of them."""
    from IPython.display import display

    shown = result._repr_mimebundle_()
    del shown["text/html"]
    display(shown, raw=True)
    display({"text/html": result.table_html(), "text/plain": ""}, raw=True)


def _show_experiment(experiment: Experiment) -> None:
    """Show the verdict and the table, and the chart below them once there is something to draw."""
    from IPython.display import display

    from mlnb.widgets.traffic_view import chart_of

    display({"text/html": experiment._repr_html_(), "text/plain": repr(experiment)}, raw=True)
    chart = chart_of(experiment)
    if chart is not None:
        figure = json.loads(chart.to_json()) | {"config": {"displayModeBar": False}}
        display({"application/vnd.plotly.v1+json": figure, "text/plain": ""}, raw=True)
