"""Who else hears of requests and alerts: prediction logs, webhooks, traces and the access log of one server."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from mlnb.monitoring.access_log import access_log_for
from mlnb.monitoring.alerts import Alerts
from mlnb.monitoring.notifying import Webhook
from mlnb.monitoring.tracing import tracer_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.monitoring.access_log import EventLog
    from mlnb.monitoring.prediction_log import LogSettings, PredictionLog
    from mlnb.monitoring.tracing import EventTracer
    from mlnb.registry import ModelVersion
    from mlnb.serving.observing import Observer
    from mlnb.serving.plan import Watching

__all__ = ["Recorders"]


class Recorders:
    """Begins what is wanted, shares it among deployments, and ends what none needs any more."""

    def __init__(self) -> None:
        self._logs: dict[tuple[str, LogSettings], PredictionLog] = {}
        self._webhooks: dict[str, Webhook] = {}
        self._access_log = access_log_for(os.environ)

    def listeners(self, name: str) -> tuple[EventTracer, EventLog]:
        """Return who is told of each request to a deployment: its traces, which may be off, and the access log."""
        return tracer_for(name), self._access_log

    def attach(self, observer: Observer, watching: Watching, versions: Iterable[ModelVersion]) -> None:
        """Give a deployment the log, the rules and the webhooks that it is to have."""
        settings = watching.log
        observer.log = None if settings is None else self._log(observer.name, settings)
        if observer.log is not None:
            for version in versions:
                observer.log.name_fields(version.name, version.number, version.signature.names)
        observer.webhooks = tuple(self._webhook(url) for url in watching.webhooks)
        if observer.alerts.rules != watching.rules:
            alerts = Alerts(watching.rules, name=observer.name)
            alerts.resume(observer.alerts)
            observer.alerts = alerts

    async def rest(self, observers: Iterable[Observer]) -> None:
        """End the logs and webhooks that none of these needs."""
        observers = list(observers)
        logs = {observer.log for observer in observers}
        webhooks = {webhook for observer in observers for webhook in observer.webhooks}
        ending = [log for log in self._logs.values() if log not in logs]
        over = [webhook for webhook in self._webhooks.values() if webhook not in webhooks]
        self._logs = {key: log for key, log in self._logs.items() if log in logs}
        self._webhooks = {url: webhook for url, webhook in self._webhooks.items() if webhook in webhooks}
        for close in [*(log.close for log in ending), *(webhook.close for webhook in over)]:
            try:
                await asyncio.to_thread(close)
            except RuntimeError:  # the interpreter ends, and begins no threads any more
                close()

    def close(self) -> None:
        """End the access log."""
        self._access_log.close()

    def _log(self, name: str, settings: LogSettings) -> PredictionLog:
        """Return the log of one deployment: each counts by itself."""
        if (name, settings) not in self._logs:
            from mlnb.monitoring.prediction_log import PredictionLog

            self._logs[name, settings] = PredictionLog(settings)
        return self._logs[name, settings]

    def _webhook(self, url: str) -> Webhook:
        if url not in self._webhooks:
            self._webhooks[url] = Webhook(url)
        return self._webhooks[url]
