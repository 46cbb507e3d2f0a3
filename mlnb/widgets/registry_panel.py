"""The registry's panel: its models, their versions, what to do with one, and what differs between two."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from functools import partial
from html import escape
from itertools import count
from typing import TYPE_CHECKING, Any

import traitlets

from mlnb import workspace
from mlnb.errors import MlnbError
from mlnb.registry import ModelRegistry
from mlnb.registry.reference import ModelReference
from mlnb.registry.registry import default_folder
from mlnb.widgets.base import Panel, resources
from mlnb.widgets.registry_render import render_live, render_registry, render_registry_static
from mlnb.widgets.registry_snapshot import SHOWN, Problem, View, or_problem, read_registry, unread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlnb.widgets.registry_snapshot import RegistrySnapshot
    from mlnb.workspace import Deployment

__all__ = ["RegistryPanel"]


class RegistryPanel(Panel):
    """What a registry holds, to look at and to work with.

    It reads the registry when it is displayed, after each deed, and when *Refresh* is pressed; never by itself, since a
    registry may be a bucket.

    Parameters
    ----------
    registry : ModelRegistry, str or Path, optional
        Default: ``$MLNB_HOME``, else the user's data folder. One that cannot be reached says so in the panel.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     panel = RegistryPanel(folder)
    ...     panel.refresh()
    ...     panel.close()
    >>> "No models yet" in panel.versions
    True
    """

    _esm = traitlets.Unicode(resources("sending.js", "shared.js", "reach.js", "registry_panel.js")).tag(sync=True)
    _css = traitlets.Unicode(resources("shared.css", "registry_panel.css")).tag(sync=True)

    header = traitlets.Unicode().tag(sync=True)
    models = traitlets.Unicode().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    versions = traitlets.Unicode().tag(sync=True)
    legend = traitlets.Unicode().tag(sync=True)
    comparison = traitlets.Unicode().tag(sync=True)
    detail = traitlets.Unicode().tag(sync=True)
    read = traitlets.Unicode().tag(sync=True)

    def __init__(self, registry: ModelRegistry | str | Path | None = None) -> None:
        self._place = default_folder() if registry is None else registry
        self._registry = registry if isinstance(registry, ModelRegistry) else None
        self._view = View()
        self._readings = count(1)
        self._drawn = 0  # the reading that is drawn
        super().__init__(self._url)

    @property
    def registry(self) -> ModelRegistry:
        """What this panel shows.

        Raises
        ------
        RegistryUnavailableError, RegistryFormatError
        """
        if self._registry is None:
            self._registry = ModelRegistry(self._place)  # type: ignore[arg-type]  # a place, as no registry was given
        return self._registry

    def refresh(self) -> None:
        """Read the registry and draw it; regions that have not changed send nothing."""
        self._draw()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        snapshot = self._draw()
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        plain = {"text/html": render_registry_static(snapshot), "text/plain": f"<RegistryPanel of {self._url}>"}
        return {key: value for key, value in data.items() if key not in plain} | plain, metadata

    @property
    def _url(self) -> str:
        return self._registry.url if self._registry is not None else str(self._place)

    def _draw(self) -> RegistrySnapshot:
        reading, view = next(self._readings), self._view
        snapshot = self._read(view)
        with self._lock:
            if reading > self._drawn:  # else a later one was quicker
                self._drawn = reading
                if self._view is view:
                    self._view = snapshot.view
                self._show(**render_registry(snapshot))
        return snapshot

    def _read(self, view: View) -> RegistrySnapshot:
        registry = or_problem(lambda: self.registry)
        if isinstance(registry, Problem):
            return unread(self._url, view, registry)
        snapshot = read_registry(registry, view)
        if not snapshot.models and not isinstance(self._place, ModelRegistry):
            self._registry = None  # whoever makes a registry there now trusts it, which one opened before does not see
        return snapshot

    def _deed(self, action: str, payload: dict[str, Any]) -> Callable[[], None] | None:
        self._show(notice="")
        if action in _LOOKS:
            # At once, so that looks are taken in the order in which they were asked for, however long each is read.
            self._view = _LOOKS[action](self._view, payload)
            return self.refresh
        deeds: dict[str, Callable[[ModelReference, dict[str, Any]], str]] = {
            "alias": self._set_alias,
            "deploy": self._deploy,
            "prove": self._prove,
            "rollback": self._roll_back,
        }
        return partial(self._attempt, deeds[action], ModelReference.parse(payload["reference"]), payload)

    def _attempt(
        self, deed: Callable[[ModelReference, dict[str, Any]], str], reference: ModelReference, payload: dict[str, Any]
    ) -> None:
        try:
            done = deed(reference, payload)
        except MlnbError as error:
            done = escape(error.message)
        self._show(notice=done)
        self.refresh()

    def _deploy(self, reference: ModelReference, _: dict[str, Any]) -> str:
        before = self._live(reference.name)
        return _live_line(workspace.deploy(str(reference), registry=self.registry), before)

    def _roll_back(self, reference: ModelReference, _: dict[str, Any]) -> str:
        before = self._live(reference.name)
        return _live_line(workspace.rollback(reference.name, to=reference.number), before)

    def _live(self, name: str) -> int | None:
        here = (one for one in workspace.deployments() if one.name == name and one.registry.url == self.registry.url)
        return next((one.version.number for one in here), None)

    def _set_alias(self, reference: ModelReference, payload: dict[str, Any]) -> str:
        assert reference.number is not None  # noqa: S101 - for the type checker: the page names a version
        alias, known = payload["alias"].strip().removeprefix("@"), payload["known"]
        self.registry.set_alias(reference.name, alias, reference.number, expected=known.get(alias))
        before = f"; it meant v{known[alias]} before" if alias in known else ""
        return f"{escape(reference.name)}@{escape(alias)} means v{reference.number}{before}."

    def _prove(self, reference: ModelReference, _: dict[str, Any]) -> str:
        self._show(notice=f"Proving {escape(str(reference))} in a process without this notebook…")
        try:
            found = f"is {self.registry.prove(str(reference))}"
        except subprocess.TimeoutExpired as error:
            found = f"could not be proved: the process had not answered after {error.timeout:.0f} s"
        return f"{escape(str(reference))} {escape(found.removesuffix('.'))}."


def _choose(_: View, payload: dict[str, Any]) -> View:
    return View(model=payload["model"])


def _open(view: View, payload: dict[str, Any]) -> View:
    reference = ModelReference.parse(payload["reference"])
    return replace(_at(view, reference.name), opened=reference.number)


def _compare(view: View, payload: dict[str, Any]) -> View:
    old, new = sorted((int(payload["one"]), int(payload["other"])))
    return replace(_at(view, payload["model"]), compared=(old, new))


def _at(view: View, model: str) -> View:
    return view if view.model == model else View(model=model)


_LOOKS: dict[str, Callable[[View, dict[str, Any]], View]] = {
    "choose": _choose,
    "close": lambda view, _: replace(view, opened=None),
    "compare": _compare,
    "more": lambda view, _: replace(view, shown=view.shown + SHOWN),
    "open": _open,
    "refresh": lambda view, _: view,
    "uncompare": lambda view, _: replace(view, compared=None),
}


def _live_line(deployment: Deployment, before: int | None) -> str:
    live = deployment.snapshot()
    return render_live(live.name, before, live.version.number, url=live.url, docs_url=live.docs_url)
