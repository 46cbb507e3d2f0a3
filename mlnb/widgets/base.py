"""What all panels share: regions of HTML made here, and buttons whose deeds run on threads of their own."""

from __future__ import annotations

import logging
import threading
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from mlnb.widgets.reach import note_reached, ways_for

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Panel", "resources"]

_log = logging.getLogger(__name__)


def resources(*names: str) -> str:
    """Return files of this package, one after the other: what all panels share, then a panel's own."""
    folder = files("mlnb.widgets")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


class Panel(anywidget.AnyWidget):
    """A card in the notebook: the kernel renders its regions, the page puts them in place and says what was pressed.

    Parameters
    ----------
    subject : str
        What it shows, for the log.
    **regions : str
        The HTML of the regions, by trait.
    """

    notice = traitlets.Unicode(help="What the last deed did, as HTML").tag(sync=True)
    handled = traitlets.Int(help="Messages taken so far, so that the browser knows the kernel listens").tag(sync=True)
    finished = traitlets.Int(help="Deeds done so far, well or badly").tag(sync=True)

    def __init__(self, subject: str, **regions: str) -> None:
        self._subject = subject
        self._lock = threading.RLock()
        self._closed = False
        super().__init__(**regions)
        self.on_msg(lambda _, message, __: self.act(**message))

    @property
    def closed(self) -> bool:
        """Whether it was closed, here or by ipywidgets' own close_all."""
        return self._closed

    def act(self, action: str, **payload: Any) -> threading.Thread | None:
        """Do what a button says, on a thread of its own; return that thread, None if there was nothing to wait for."""
        if action in ("reach", "reached"):  # the page's own words, for which no person waits
            self._find_way(action, payload)
            return None
        self._show(handled=self.handled + 1)
        deed = self._deed(action, payload)
        if deed is None:
            return None
        thread = threading.Thread(target=self._do, args=(deed,), name=f"mlnb panel {action}", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Stop drawing and free the widget; what it shows goes on."""
        if not self._closed:
            with self._lock:
                self._closed = True
            self.layout.close()  # a widget of its own, which ipywidgets would leave open
            super().close()

    def _find_way(self, action: str, payload: dict[str, Any]) -> None:
        if action == "reached":
            note_reached(payload)
            return
        with self._lock:
            if not self._closed:
                self.send(ways_for(payload, live=self._is_live()))

    def _is_live(self) -> bool:
        """Say whether there is a server to be reached."""
        return True

    def _deed(self, action: str, payload: dict[str, Any]) -> Callable[[], None] | None:
        """Return what ``action`` means, None if that was done at once."""
        raise NotImplementedError

    def _do(self, deed: Callable[[], None]) -> None:
        try:
            deed()
        except Exception as error:  # noqa: BLE001 - the page must hear of it, whatever it is
            _log.exception("The panel of %s failed", self._subject)
            self._show(notice=escape(f"{type(error).__name__}: {error}"))
        finally:
            with self._lock:
                self._show(finished=self.finished + 1)

    def _show(self, **traits: Any) -> None:
        with self._lock:
            if not self._closed:
                for name, value in traits.items():
                    setattr(self, name, value)
