from __future__ import annotations

import threading

import pytest
from waiting import wait_until

from mlnb.widgets.ticker import Ticker


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mlnb ticker"]


def test_one_thread_for_all_and_none_without_subscribers() -> None:
    ticker = Ticker(interval=0.01)
    called: list[str] = []
    first = ticker.subscribe(lambda: called.append("first"))
    second = ticker.subscribe(lambda: called.append("second"))
    wait_until(lambda: {"first", "second"} <= set(called))
    assert len(threads()) == 1
    first()
    first()
    second()
    wait_until(lambda: not threads())
    again = ticker.subscribe(lambda: called.append("again"))
    wait_until(lambda: "again" in called)
    again()
    wait_until(lambda: not threads())


def test_a_subscriber_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    ticker = Ticker(interval=0.01)
    called: list[int] = []

    def fail() -> None:
        raise RuntimeError("broken panel")

    unsubscribe = [ticker.subscribe(fail), ticker.subscribe(lambda: called.append(1))]
    wait_until(lambda: len(called) > 2)
    for one in unsubscribe:
        one()
    assert "A panel failed to refresh" in caplog.text
    wait_until(lambda: not threads())
