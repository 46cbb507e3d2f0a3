"""The panel under the deploy cell: draws a snapshot, and does what its buttons say."""

from __future__ import annotations

import json
import threading
import time
from html import escape
from typing import TYPE_CHECKING, Any

import traitlets

from mlnb.errors import MlnbError
from mlnb.monitoring.figures import traffic_figure
from mlnb.serving.dashboard import compressed_plotly, resource
from mlnb.serving.dashboard.regions import render_regions
from mlnb.widgets import traffic_deeds
from mlnb.widgets.base import Panel, resources
from mlnb.widgets.package_tab import PackageTab
from mlnb.widgets.registry_render import render_card
from mlnb.widgets.registry_snapshot import read_card
from mlnb.widgets.render import render, render_answer, render_failure, render_static
from mlnb.widgets.render_package import render_package
from mlnb.widgets.render_replicas import render_changes
from mlnb.widgets.render_scale import render_scale
from mlnb.widgets.render_traffic import render_counts, render_traffic
from mlnb.widgets.scale_tab import ScaleTab, last_changes
from mlnb.widgets.ticker import ticker
from mlnb.widgets.traffic_view import TrafficView, chart_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.monitoring.experiment import Experiment
    from mlnb.monitoring.metrics import Series
    from mlnb.registry.signature import Signature
    from mlnb.widgets.traffic_deeds import Manner
    from mlnb.workspace import Deployment, DeploymentSnapshot

__all__ = ["DeploymentPanel"]

_LOOKED_AT, _LEFT = 900.0, 10.0  # seconds that a tab is kept up to date after a page said that it looks, or has left


class DeploymentPanel(Panel):
    """The live card of one deployment.

    One widget for all of it: the regions are HTML made here (:mod:`mlnb.widgets.render`), the browser puts them in
    place and sends back which button was pressed. plotly.js travels once per page, when a chart is first looked at, and
    is part of no saved notebook.

    Parameters
    ----------
    deployment : Deployment
    """

    _esm = traitlets.Unicode(
        resources("sending.js", "shared.js", "load_plotly.js", "traffic_sliders.js", "reach.js", "panel.js")
    ).tag(sync=True)
    _css = traitlets.Unicode(resource("board.css") + resources("shared.css", "panel.css")).tag(sync=True)

    header = traitlets.Unicode().tag(sync=True)
    address = traitlets.Unicode().tag(sync=True)
    alarm = traitlets.Unicode().tag(sync=True)
    form = traitlets.Unicode().tag(sync=True)
    result = traitlets.Unicode().tag(sync=True)
    versions = traitlets.Unicode().tag(sync=True)
    activity = traitlets.Unicode().tag(sync=True)
    footer = traitlets.Unicode().tag(sync=True)
    answering = traitlets.Unicode().tag(sync=True)
    scale = traitlets.Unicode().tag(sync=True)
    reason = traitlets.Unicode().tag(sync=True)
    replicas = traitlets.Unicode().tag(sync=True)
    faster = traitlets.Unicode().tag(sync=True)
    traffic = traitlets.Unicode().tag(sync=True)
    rollout = traitlets.Unicode().tag(sync=True)
    verdict = traitlets.Unicode().tag(sync=True)
    choices = traitlets.Unicode().tag(sync=True)
    shadow = traitlets.Unicode().tag(sync=True)
    compared = traitlets.Unicode().tag(sync=True)
    package_form = traitlets.Unicode().tag(sync=True)
    package_files = traitlets.Unicode().tag(sync=True)
    package_deeds = traitlets.Unicode().tag(sync=True)
    package_steps = traitlets.Unicode().tag(sync=True)
    package_result = traitlets.Unicode().tag(sync=True)
    counts = traitlets.Dict(help="What each version of a split answered, by the cell that shows it").tag(sync=True)
    by_load = traitlets.Bool(help="Whether the replicas follow the load, so that there is a chart").tag(sync=True)
    shared = traitlets.Int(help="Times that a split was asked for, granted or not").tag(sync=True)
    trial = traitlets.Unicode(help="Plotly figure of the experiment as JSON, new while it is looked at").tag(sync=True)
    card = traitlets.Unicode(help="The live version's model card, once its tab was opened").tag(sync=True)
    figure = traitlets.Unicode(help="Plotly figure as JSON, once the Monitor tab was opened").tag(sync=True)
    watched = traitlets.Unicode(help="Alerts, quality and drift, new while the Monitor tab is looked at").tag(sync=True)
    series = traitlets.Dict(help="What the figure draws, by trace; new every second while it is looked at").tag(
        sync=True
    )

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._drawing = threading.RLock()  # a snapshot is drawn before the next one is taken
        self._chart_until = self._compare_until = 0.0
        self._scale_tab = ScaleTab(deployment, redraw=self.refresh)
        self._package_tab = PackageTab(deployment, redraw=self._draw_package)
        self._carded = ""  # the version whose card is shown
        self._adding = False  # whether a version is being made ready
        self._experiment: Experiment | None = None
        self._charted: Experiment | None = None  # the one that was drawn last
        super().__init__(deployment.name, **self._regions())
        self._unsubscribe = ticker.subscribe(self.refresh)

    @property
    def deployment(self) -> Deployment:
        """What this panel shows."""
        return self._deployment

    def refresh(self) -> None:
        """Draw the present snapshot; regions that have not changed send nothing."""
        charting = time.monotonic() < self._chart_until
        if self.card and self._carded != str(self._deployment.version):
            self._show(card="")  # a page that looks at it asks anew
        with self._drawing:
            self._show(**self._regions(), **(self._monitored() if charting else {}))
            self._draw_experiment()
            self._draw_scaling()

    def _regions(self) -> dict[str, Any]:
        snapshot = self._deployment.snapshot()
        scale = self._scale_tab.view(snapshot)
        self._experiment = self._compared(snapshot)
        traffic = TrafficView(experiment=self._experiment, busy=self._adding)
        counts = {"counts": render_counts(snapshot, traffic), "by_load": snapshot.scaling is not None}
        shown = render(snapshot) | render_scale(snapshot, scale) | render_traffic(snapshot, traffic) | counts
        return shown | self._packaged()

    def _packaged(self) -> dict[str, Any]:
        return render_package(self._package_tab.view(self._deployment.version.number))

    def _draw_package(self) -> None:
        with self._drawing:
            self._show(**self._packaged())

    def _monitored(self) -> dict[str, Any]:
        """Return what the Monitor tab shows beside the counts."""
        view = self._deployment.view()
        regions = render_regions(view, owner=True)
        shown = "".join(
            f"<section>{regions[name]}</section>" for name in ("alerts", "quality", "drift") if regions[name]
        )
        return {"series": _drawn(view.series), "watched": shown}

    def _compared(self, snapshot: DeploymentSnapshot) -> Experiment | None:
        """Return how the versions of a split compare; None if the requests are not split."""
        traffic = snapshot.traffic
        looked_at = time.monotonic() < self._compare_until
        # Where one version has all the weight, only the experiment says that there is a split.
        if traffic is None or traffic.canary or not (looked_at or self._experiment or len(traffic.shares) > 1):
            return None
        try:
            return self._deployment.experiment()
        except MlnbError:
            return None

    def _draw_experiment(self) -> None:
        if self._experiment is None:
            self._charted = None
            self._show(trial="")
        elif time.monotonic() < self._compare_until and self._experiment != self._charted:
            chart, self._charted = chart_of(self._experiment), self._experiment
            self._show(trial="" if chart is None else chart.to_json())

    def _draw_scaling(self) -> None:
        """Send the chart of the replicas to the page that looks: by a message, which no notebook stores."""
        chart = self._scale_tab.chart()
        with self._lock:
            if chart is not None and not self.closed:
                self.send({"kind": "replicas"}, buffers=[chart])

    def close(self) -> None:
        """Stop drawing and free the widget; the deployment goes on."""
        if not self.closed:
            self._unsubscribe()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        snapshot = self._deployment.snapshot()
        html = render_static(snapshot)
        if snapshot.scaling is not None:
            html += render_changes(snapshot.scaling, last_changes(self._deployment))
        plain = {"text/html": html, "text/plain": repr(self._deployment)}
        return {key: value for key, value in data.items() if key not in plain} | plain, metadata

    def _deed(self, action: str, payload: dict[str, Any]) -> Callable[[], None] | None:
        if action == "plotly":
            self.send({"kind": "plotly"}, buffers=[compressed_plotly()])
            return None
        if action in ("bounds", "fix", "follow", "scale"):
            deed = self._scale_tab.deed(action, payload)
            return None if deed is None else lambda: self._say(deed)
        if action.startswith("package_"):
            return self._packing(action, payload)
        if action == "add":
            return self._making_ready(int(payload["to"]), payload["manner"])
        deployment = self._deployment
        deeds: dict[str, Callable[[], None]] = {
            "card": self._read_card,
            "chart": lambda: self._chart(looked_at=payload["looked_at"]),
            "compare": lambda: self._compare(looked_at=payload["looked_at"]),
            "end_shadow": lambda: self._attempt(lambda: traffic_deeds.end_shadow(deployment)),
            "memory": lambda: self._weigh(looked_at=payload["looked_at"]),
            "predict": lambda: self._predict(payload["row"]),
            "promote": lambda: self._attempt(lambda: traffic_deeds.promote(deployment, int(payload["to"]))),
            "rollback": lambda: self._attempt(lambda: traffic_deeds.roll_back(deployment, int(payload["to"]))),
            "share_out": lambda: self._share_out(payload["weights"]),
            "start": lambda: self._attempt(self._start),
            "stop": lambda: self._attempt(self._stop),
        }
        return deeds[action]

    def _is_live(self) -> bool:
        return self._deployment.state == "live"

    def _read_card(self) -> None:
        registry, version = self._deployment.registry, str(self._deployment.version)
        self._carded = version
        self._show(card=render_card(read_card(registry, version)))

    def _chart(self, *, looked_at: bool) -> None:
        # The page says every few seconds that it looks; a busy kernel hears it late, a page that is gone says no more.
        self._chart_until = time.monotonic() + (_LOOKED_AT if looked_at else _LEFT)
        if not self.figure:
            self._show(figure=traffic_figure(self._deployment.series()).to_json())
        self.refresh()

    def _weigh(self, *, looked_at: bool) -> None:
        self._scale_tab.look(_LOOKED_AT if looked_at else _LEFT)
        self.refresh()

    def _compare(self, *, looked_at: bool) -> None:
        self._compare_until = time.monotonic() + (_LOOKED_AT if looked_at else _LEFT)
        self.refresh()

    def _making_ready(self, number: int, manner: Manner) -> Callable[[], None] | None:
        if self._adding:
            return None  # pressed before the page heard of it
        self._adding = True
        return lambda: self._add(number, manner)

    def _add(self, number: int, manner: Manner) -> None:
        def add() -> str:
            self._show(notice=f"Making v{number} ready…")
            self.refresh()
            try:
                return traffic_deeds.add(self._deployment, number, manner=manner)
            finally:
                self._adding = False

        self._attempt(add)

    def _packing(self, action: str, payload: dict[str, Any]) -> Callable[[], None] | None:
        deed = self._package_tab.deed(action, payload)
        if deed is None:
            return None
        self._show(notice="")  # what was done before is not what is done now
        return lambda: self._say(deed)

    def _share_out(self, weights: dict[str, float]) -> None:
        wanted = {int(number): weight for number, weight in weights.items()}
        try:
            self._attempt(lambda: traffic_deeds.share_out(self._deployment, wanted))
        finally:
            self._show(shared=self.shared + 1)  # the sliders stand where they stood, if it was refused

    def _predict(self, row: dict[str, str]) -> None:
        signature = self._deployment.version.signature
        try:
            answer = self._deployment.answer(_typed(row, signature), probabilities=signature.probabilities)
        except MlnbError as error:
            self._show(result=render_failure(error))
        else:
            self._show(result=render_answer(answer))

    def _start(self) -> str:
        self._deployment.start()
        return "Live again."

    def _stop(self) -> str:
        self._deployment.stop()
        return f"Stopped. {self._deployment.url} answers no more."

    def _attempt(self, deed: Callable[[], str]) -> None:
        self._say(deed)
        self._show(result="")

    def _say(self, deed: Callable[[], str]) -> None:
        try:
            done = deed()
        except MlnbError as error:
            done = error.message
        self._show(notice=escape(done))
        self.refresh()


def _drawn(series: Series) -> dict[str, Any]:
    shown = {"requests": series.requests, "errors": series.errors, "p50": series.p50, "p99": series.p99}
    return {"ago": list(series.ago)} | {name: list(values) for name, values in shown.items()}


def _typed(row: dict[str, str], signature: Signature) -> Any:
    """Turn the form's text into the values that the fields take; what cannot be turned is refused by the signature."""
    if not signature.fields or signature.shape:
        try:
            return [json.loads(row["row"])]
        except json.JSONDecodeError as error:
            raise MlnbError(
                f"Type one row as JSON, for instance [5.1, 3.5]; {row['row']!r} is none: {error}."
            ) from None
    kinds = {field.name: field.kind for field in signature.fields}
    return {name: _typed_value(text.strip(), kinds.get(name, "text")) for name, text in row.items()}


def _typed_value(text: str, kind: str) -> Any:
    if kind == "text":
        return text
    if text == "":
        return None
    if kind == "datetime":
        return text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
