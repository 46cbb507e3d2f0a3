"""The panel under the deploy cell: draws a snapshot, and does what its buttons say."""

from __future__ import annotations

import gzip
import json
import threading
import time
from dataclasses import asdict
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

import traitlets

from mlnb.errors import MlnbError
from mlnb.monitoring.figures import plotly_javascript, traffic_figure
from mlnb.scaling.memory import MemoryGauge
from mlnb.widgets.base import Panel, resources
from mlnb.widgets.registry_render import render_card
from mlnb.widgets.registry_snapshot import read_card
from mlnb.widgets.render import counted, render, render_answer, render_failure, render_static
from mlnb.widgets.render_scale import render_scale
from mlnb.widgets.scale_view import ScaleView, follow
from mlnb.widgets.ticker import ticker

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.monitoring.monitor import Series
    from mlnb.registry.signature import Signature
    from mlnb.widgets.scale_view import Ended
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

    _esm = traitlets.Unicode(resources("shared.js", "panel.js")).tag(sync=True)
    _css = traitlets.Unicode(resources("shared.css", "panel.css")).tag(sync=True)

    header = traitlets.Unicode().tag(sync=True)
    address = traitlets.Unicode().tag(sync=True)
    form = traitlets.Unicode().tag(sync=True)
    result = traitlets.Unicode().tag(sync=True)
    versions = traitlets.Unicode().tag(sync=True)
    activity = traitlets.Unicode().tag(sync=True)
    footer = traitlets.Unicode().tag(sync=True)
    scale = traitlets.Unicode().tag(sync=True)
    replicas = traitlets.Unicode().tag(sync=True)
    faster = traitlets.Unicode().tag(sync=True)
    card = traitlets.Unicode(help="The live version's model card, once its tab was opened").tag(sync=True)
    figure = traitlets.Unicode(help="Plotly figure as JSON, once the Monitor tab was opened").tag(sync=True)
    series = traitlets.Dict(help="What the figure draws, by trace; new every second while it is looked at").tag(
        sync=True
    )

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._drawing = threading.RLock()  # a snapshot is drawn before the next one is taken
        self._chart_until = self._memory_until = 0.0
        self._carded = ""  # the version whose card is shown
        self._gauge = MemoryGauge()
        self._memory: dict[int, int] = {}
        self._coming: int | None = None  # replicas that are on their way
        self._last: DeploymentSnapshot | None = None
        self._ended: Ended | None = None
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
            self._show(**self._regions(), **({"series": _drawn(self._deployment.series())} if charting else {}))

    def _regions(self) -> dict[str, str]:
        snapshot = self._deployment.snapshot()
        self._ended = follow(self._ended, self._last, snapshot)
        self._last = snapshot
        if time.monotonic() < self._memory_until:
            self._memory = self._gauge.read(replica.pid for replica in snapshot.replicas if replica.pid is not None)
        view = ScaleView(wanted=self._deployment.replicas, coming=self._coming, memory=self._memory, ended=self._ended)
        return render(snapshot) | render_scale(snapshot, view)

    def close(self) -> None:
        """Stop drawing and free the widget; the deployment goes on."""
        if not self.closed:
            self._unsubscribe()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        plain = {"text/html": render_static(self._deployment.snapshot()), "text/plain": repr(self._deployment)}
        return {key: value for key, value in data.items() if key not in plain} | plain, metadata

    def _deed(self, action: str, payload: dict[str, Any]) -> Callable[[], None] | None:
        if action == "plotly":
            self.send({"kind": "plotly"}, buffers=[_compressed_plotly()])
            return None
        if action == "scale":
            return self._scaling(int(payload["to"]))
        deeds: dict[str, Callable[[], None]] = {
            "card": self._read_card,
            "chart": lambda: self._chart(looked_at=payload["looked_at"]),
            "memory": lambda: self._weigh(looked_at=payload["looked_at"]),
            "predict": lambda: self._predict(payload["row"]),
            "rollback": lambda: self._roll_back(int(payload["to"])),
            "stop": lambda: self._attempt(self._deployment.stop, f"Stopped. {self._deployment.url} answers no more."),
            "start": lambda: self._attempt(self._deployment.start, "Live again."),
        }
        return deeds[action]

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
        self._memory_until = time.monotonic() + (_LOOKED_AT if looked_at else _LEFT)
        self.refresh()

    def _scaling(self, to: int) -> Callable[[], None] | None:
        if self._coming is not None:
            return None  # pressed before the page heard of it
        self._coming = to
        return lambda: self._scale(to)

    def _scale(self, to: int) -> None:
        before = self._deployment.replicas
        try:
            self.refresh()
            self._deployment.scale(to)
        except MlnbError as error:
            notice = error.message
        else:
            notice = f"Scaled from {before} to {counted(to, 'replica')}."
        finally:
            self._coming = None
        self._show(notice=escape(notice))
        self.refresh()

    def _predict(self, row: dict[str, str]) -> None:
        signature = self._deployment.version.signature
        try:
            answer = self._deployment.answer(_typed(row, signature), probabilities=signature.probabilities)
        except MlnbError as error:
            self._show(result=render_failure(error))
        else:
            self._show(result=render_answer(answer))

    def _roll_back(self, to: int) -> None:
        before = self._deployment.version.number
        self._attempt(lambda: self._deployment.rollback(to=to), f"v{to} is live; v{before} was before.")

    def _attempt(self, deed: Callable[[], object], done: str) -> None:
        try:
            deed()
        except MlnbError as error:
            done = error.message
        self._show(notice=escape(done), result="")
        self.refresh()


def _drawn(series: Series) -> dict[str, Any]:
    return {name: list(values) for name, values in asdict(series).items()}


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


@cache
def _compressed_plotly() -> bytes:
    return gzip.compress(plotly_javascript().encode(), compresslevel=5, mtime=0)
