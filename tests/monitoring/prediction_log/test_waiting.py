from __future__ import annotations

from monitoring.prediction_log.events import event, events

from mlnb.monitoring.outcomes import Label
from mlnb.monitoring.prediction_log.clock_trust import ClockTrust
from mlnb.monitoring.prediction_log.noted import NotedLabel
from mlnb.monitoring.prediction_log.waiting import Waiting


def test_no_more_requests_wait_than_may() -> None:
    waiting = Waiting(requests=10)
    waiting.put(events(6))
    waiting.put(events(6))
    assert (waiting.count, waiting.refused) == (6, 6)
    taken, values = waiting.take(100)
    assert (len(taken), values) == (6, 18)
    waiting.put(events(6))
    assert waiting.refused == 12, "what is taken and not written waits still"
    waiting.done(6, values)
    waiting.put(events(6))
    assert (waiting.count, waiting.refused) == (6, 12)


def test_no_more_values_wait_than_may_but_those_of_one_turn() -> None:
    waiting = Waiting(values=1000)
    long = [event("a", inputs=[[0.5] * 900])]
    for _ in range(3):
        waiting.put(long)
    assert (waiting.count, waiting.refused) == (1, 2)
    large = Waiting(values=10)
    large.put(long)
    assert large.count == 1


def test_many_requests_are_measured_by_some() -> None:
    waiting = Waiting()
    waiting.put([event("a", inputs=[[0.5] * 100]) for _ in range(80)])
    assert waiting.take(100)[1] == 8080


def test_labels() -> None:
    waiting = Waiting(labels=3)
    noted = [NotedLabel("iris", Label("a", label=1), 0.0)] * 2
    waiting.put_labels(noted)
    waiting.put_labels(noted)
    assert waiting.refused_labels == 2
    assert waiting.anything
    assert waiting.take_labels() == noted
    assert not waiting.anything


def test_only_who_waits_is_woken() -> None:
    waiting = Waiting()
    waiting.put(events(1))
    assert waiting.signals.empty()
    waiting.idle = True
    waiting.put(events(1))
    waiting.put(events(1))
    assert waiting.signals.qsize() == 1
    waiting.put(events(5000))
    waiting.put(events(5000))
    assert waiting.signals.qsize() == 2, "many are written early"


def test_closed() -> None:
    waiting = Waiting()
    waiting.close()
    waiting.put(events(3))
    assert (waiting.count, waiting.refused) == (0, 3)


def test_the_clock_is_believed_unless_it_jumps() -> None:
    trust = ClockTrust(wall=1e9, monotonic=100.0)
    assert trust.holds(wall=1e9 + 86_400, monotonic=86_500.0)
    assert not trust.holds(wall=2e9, monotonic=86_501.0)
    assert not trust.holds(wall=1e9, monotonic=86_502.0), "it jumped back"
    assert not trust.holds(wall=1e9 + 3600, monotonic=86_502.0 + 3600)
    assert trust.holds(wall=1e9 + 86_400, monotonic=86_502.0 + 86_400), "for a day it did not jump"
