"""Proofs in the background: of each model, when registering has been quiet for a second, the newest version."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["prover"]

_log = logging.getLogger(__name__)
_CALM = 1.0  # seconds without a new version: a search that registers hundreds of models is left alone


class Prover:
    """One thread that lives while there is something to prove; of each key only the latest job is done.

    Parameters
    ----------
    calm : float
        Seconds to wait after the last job came.
    """

    def __init__(self, *, calm: float = _CALM) -> None:
        self._calm = calm
        self._forget()
        os.register_at_fork(after_in_child=self._forget)  # the thread is not in the child, its lock may be held there

    def _forget(self) -> None:
        self.running = threading.Lock()  # held while a child proves: one at a time leaves a core to the notebook
        self._lock = threading.Lock()
        self._jobs: dict[object, Callable[[], object]] = {}
        self._last = 0.0
        self._thread: threading.Thread | None = None

    def submit(self, key: object, job: Callable[[], object]) -> None:
        """Run ``job`` soon, unless another comes for ``key`` before; never where ``MLNB_PROVE=off``."""
        if os.environ.get("MLNB_PROVE") == "off":
            return
        with self._lock:
            self._jobs[key] = job
            self._last = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mlnb prover", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001 - the next job is to be done all the same
                _log.warning("A version could not be proved", exc_info=True)

    def _next(self) -> Callable[[], object] | None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._thread = None
                    return None
                remaining = self._last + self._calm - time.monotonic()
                if remaining <= 0:
                    return self._jobs.pop(next(iter(self._jobs)))
            time.sleep(remaining)  # a daemon's wait: nobody waits for it


prover = Prover()
