"""One thread that tells all open panels to refresh, once a second, while there is one."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Ticker", "ticker"]

_log = logging.getLogger(__name__)


class Ticker:
    """Calls its subscribers again and again; its thread lives from the first to the last of them.

    Parameters
    ----------
    interval : float
        Seconds between two rounds.
    """

    def __init__(self, *, interval: float = 1.0) -> None:
        self._interval = interval
        self._lock = threading.Lock()
        self._subscribers: dict[object, Callable[[], None]] = {}
        self._stopped = threading.Event()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` each round from now on; the function returned ends that, and again is harmless."""
        key = object()
        with self._lock:
            if not self._subscribers:
                self._stopped = threading.Event()
                threading.Thread(target=self._run, args=(self._stopped,), name="mlnb ticker", daemon=True).start()
            self._subscribers[key] = callback

        def unsubscribe() -> None:
            with self._lock:
                if self._subscribers.pop(key, None) is not None and not self._subscribers:
                    self._stopped.set()

        return unsubscribe

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._interval):
            self._round()

    def _round(self) -> None:  # a function, so that no local keeps a closed panel alive until the next round
        with self._lock:
            callbacks = list(self._subscribers.values())
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001 - one panel must not stop the others
                _log.exception("A panel failed to refresh")


ticker = Ticker()
