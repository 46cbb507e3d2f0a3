"""What a deployment tells of itself: metrics, drift, quality, alerts and its prediction log."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError, MlnbError, NotDeployedError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from mlnb.monitoring import MetricsSnapshot
    from mlnb.monitoring.alert_table import AlertTable
    from mlnb.monitoring.alerts import AlertChange, AlertRule
    from mlnb.monitoring.drift import DriftReport
    from mlnb.monitoring.metrics import Series
    from mlnb.monitoring.prediction_log.reading import Moment
    from mlnb.monitoring.quality import QualityReport
    from mlnb.monitoring.view import MonitorView
    from mlnb.registry import ModelVersion
    from mlnb.serving.hosting import Hosted, Hosting

    Callback = Callable[[AlertChange], object]

__all__ = ["Monitored"]

_log = logging.getLogger(__name__)

_WINDOWS = (300, 3600)  # seconds
_AGAIN = 0.2  # seconds before it is asked for alerts again
_turn = threading.Lock()  # to begin or end a thread that calls back


class Monitored:
    """The part of a deployment that tells what it did; :class:`~mlnb.workspace.Deployment` is the whole."""

    name: str
    version: ModelVersion
    _live: bool
    _hosted: Hosted | None
    _last_view: MonitorView | None = None
    _callbacks: tuple[Callback, ...] = ()
    _heeding: threading.Thread | None = None

    @property
    def _hosting(self) -> Hosting:
        """The server."""
        raise NotImplementedError

    @property
    def _served(self) -> Hosted:
        """What is served.

        Raises
        ------
        StoppedError
            If the deployment was stopped.
        """
        raise NotImplementedError

    def _place(self, replicas: Any) -> str:
        raise NotImplementedError

    def _rewatch(self, rules: tuple[AlertRule, ...], webhooks: tuple[str, ...]) -> None:
        raise NotImplementedError

    def metrics(self) -> MetricsSnapshot:
        """Return what happened over the last minute, 5 minutes, hour, and all time.

        By version and replica: requests, errors by status, latency quantiles (within 1 %), time in the queue, rows of a
        batch, and what was answered.
        """
        return self.view().metrics

    def series(self) -> Series:
        """Return requests, errors and latency second by second over the last five minutes."""
        return self.view().series

    def view(self, window: int = 300) -> MonitorView:
        """Return all that a dashboard draws.

        Parameters
        ----------
        window : {300, 3600}
            Seconds that the series goes back, in steps of a second or a minute.
        """
        if window not in _WINDOWS:
            raise InvalidInputError(f"window={window!r}: 300 or 3600 seconds are shown.")
        if self._live:
            with suppress(StoppedError, NotDeployedError):
                seen = self._hosting.view(self.name, window)
                place = "in kernel" if seen.place == "in this process" else seen.place
                self._last_view = replace(seen, place=place)
                return self._last_view
        return self._stopped_view(window)

    def drift(self, rows: int = 1000) -> DriftReport:
        """Hold the newest rows that the live version answered against the example it was registered with.

        Parameters
        ----------
        rows : int
            At most 2,000; of more than 500 rows a second not all are kept.

        Raises
        ------
        StoppedError
        """
        self._served  # noqa: B018 - raises
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise InvalidInputError(f"rows={rows!r}: a whole number of rows from 1 on is needed.")
        return self._hosting.drift(self.name, rows)

    def quality(self, version: int | None = None, *, window: str = "all time") -> QualityReport:
        """Return how right the answers were, by the labels that came back; see :meth:`Deployment.feedback`.

        Parameters
        ----------
        version : int, optional
            Default: the live one.
        window : str
            When the labels came: "1m", "5m", "1h" or "all"; or as the report names them, "1 minute" to "all time".

        Raises
        ------
        StoppedError
        InvalidInputError
            If there is no such window, or no label of that version.
        """
        self._served  # noqa: B018 - raises
        window = _window_named(window)
        number = self.version.number if version is None else version
        reports = {report.version: report for report in self._hosting.quality(self.name, window)}
        if number in reports:
            return reports[number]
        there = f"there are some of {', '.join(f'v{one}' for one in sorted(reports))}" if reports else "there are none"
        raise InvalidInputError(
            f"No label of v{number} came ({window}; {there}). Give some: deployment.feedback(request_id, label)."
        )

    def alerts(self) -> AlertTable:
        """Return how each rule stands; see :meth:`watch`."""
        from mlnb.monitoring.alert_table import AlertTable

        view = self.view()
        return AlertTable(view.alerts, at=view.at)

    def watch(self, *rules: AlertRule | str, notify: Callback | str | Sequence[Callback | str] = ()) -> Any:
        """Be told when something goes wrong: these rules hold from now on, in the place of those before.

        The server watches once a second, whatever the kernel is doing.

        Parameters
        ----------
        *rules : AlertRule or str
            Such as ``"error rate > 5% for 1m"``, ``"p99 > 50 ms"``, ``"drift > 10% for 5m"``, ``"quality < 0.9"``,
            ``"silence > 10m"``, ``"crashes > 0"``. None: the rules that hold unless others are given.
        notify : callable, URL, or sequence of them
            A callable is given each :class:`~mlnb.monitoring.alerts.AlertChange` on a thread of this process; one that
            fails is logged. A URL gets it as JSON by POST.

        Returns
        -------
        Deployment

        Raises
        ------
        InvalidInputError, StoppedError
        """
        from mlnb.monitoring.alerts import DEFAULT_RULES, AlertRule, Alerts
        from mlnb.monitoring.notifying import sorted_out

        self._served  # noqa: B018 - raises
        wanted = tuple(AlertRule.of(rule) for rule in rules) or DEFAULT_RULES
        Alerts(wanted, name=self.name)  # which refuses two of one name
        callbacks, urls = sorted_out(notify)
        self._rewatch(wanted, urls)
        self._callbacks = callbacks
        self._heed()
        return self

    def log(
        self, *, since: Moment = None, until: Moment = None, version: int | None = None, limit: int | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Return the requests that were answered, a row for each of their rows.

        From the prediction log where there is one (``mlnb.deploy(..., log=True)``), which outlives the kernel; else of
        those that the server still remembers.

        Parameters
        ----------
        since, until : datetime, timedelta, float or str, optional
            Text in ISO 8601, without a zone in local time; "1h" or a timedelta is how long ago; a number is seconds
            since the epoch.
        version : int, optional
        limit : int, optional
            The newest ones only.

        Raises
        ------
        InvalidInputError, StoppedError
        """
        from mlnb.monitoring.prediction_log import read
        from mlnb.monitoring.prediction_log.reading import seconds_at
        from mlnb.monitoring.prediction_log.remembered import frame_of

        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise InvalidInputError(f"limit={limit!r}: a whole number of requests, or None, is needed.")
        first, last = (
            None if one is None else seconds_at(name, one) for name, one in (("since", since), ("until", until))
        )
        settings = None if self._hosted is None else self._hosted.watching.log
        if settings is not None:
            failure = self._hosting.flush_log(self.name) if self._live else ""
            table = read(settings, self.name, since=first, until=last, version=version, limit=limit)
            if failure:
                warnings.warn(f"The newest requests are not in the log: {failure}.", stacklevel=2)
            return table
        self._served  # noqa: B018 - raises
        events = self._hosting.recent(self.name, first or 0.0, last or time.time())
        chosen = [event for event in events if version in (None, event.version)]
        newest = chosen if limit is None else chosen[max(0, len(chosen) - limit) :]
        return frame_of(newest, self.version.signature.names)

    def _stopped_view(self, window: int) -> MonitorView:
        from mlnb.monitoring import ModelMonitor
        from mlnb.monitoring.view import MonitorView

        now = time.time()
        monitor = ModelMonitor()
        if self._last_view is not None:
            return replace(
                self._last_view, state="stopped", at=now, series=monitor.series(now=now, window=window), in_flight=0,
                replicas=0,
            )  # fmt: skip
        return MonitorView(
            name=self.name, version=self.version.number, state="stopped", at=now, place="in kernel",
            metrics=monitor.snapshot(now=now, windows=True), series=monitor.series(now=now, window=window),
        )  # fmt: skip

    # ---- callbacks ----

    def _heed(self) -> None:
        """Have a thread that calls back on alerts, where somebody wants that."""
        with _turn:
            if self._callbacks and self._live and self._heeding is None:
                self._heeding = threading.Thread(target=self._call_back, name=f"mlnb alerts {self.name}", daemon=True)
                self._heeding.start()

    def _heeds(self) -> bool:
        """Say whether that thread is to go on."""
        with _turn:
            if not self._live:
                self._heeding = None
            return self._live

    def _call_back(self) -> None:
        from mlnb.monitoring.notifying import notify_all

        who, after = "", 0
        while self._heeds():
            known: str = ""
            changes: list[AlertChange] = []
            with suppress(MlnbError):
                known, changes = self._hosting.follow_alerts(self.name, who, after)
            for change in changes if who else []:  # what was before is no news
                notify_all(self._callbacks, change)
            if known:
                who, after = known, changes[-1].number if changes else 0
            elif self._live:  # its server ended, and another one comes
                time.sleep(_AGAIN)


def _window_named(given: str) -> str:
    """Return the name of a window.

    Raises
    ------
    InvalidInputError
        If there is none.

    Examples
    --------
    >>> _window_named("1h"), _window_named("5 minutes"), _window_named("all")
    ('1 hour', '5 minutes', 'all time')
    """
    from mlnb.durations import seconds_of
    from mlnb.monitoring.metrics import WINDOWS

    if given in ("all", "all time"):
        return "all time"
    with suppress(InvalidInputError):
        asked = seconds_of(given, what="window")
        for name, seconds in WINDOWS.items():
            if seconds == asked:
                return name
    raise InvalidInputError(f'window={given!r:.40}: "1m", "5m", "1h" or "all" is needed.')
