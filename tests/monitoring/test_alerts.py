from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.durations import duration_text, seconds_of, span_text
from mlnb.errors import InvalidInputError
from mlnb.monitoring.alerts import DEFAULT_RULES, AlertChange, AlertRule, Alerts, Reading

SLOW = AlertRule(metric="p99", above=50, lasting="5s")


def reading(**values: Any) -> Reading:
    return Reading(**{"at": 1e9, "version": 2, "requests": 100, **values})


def steps(alerts: Alerts, values: Sequence[float | None], *, start: float = 0.0) -> list[tuple[float, str]]:
    """Step once a second; return when what changed."""
    return [
        (change.at - 1e9, change.state)
        for second, value in enumerate(values)
        for change in alerts.step(reading(p99=value, at=1e9 + start + second), now=start + second)
    ]


def test_it_fires_once_it_has_lasted_and_is_over_a_tenth_inside_the_limit() -> None:
    alerts = Alerts([SLOW], name="iris")
    assert steps(alerts, [60.0] * 10 + [48.0] * 3 + [45.0] * 3) == [(5.0, "firing"), (13.0, "resolved")]


def test_what_stops_for_a_moment_begins_anew() -> None:
    alerts = Alerts([SLOW], name="iris")
    assert steps(alerts, [60.0, 60.0, 60.0, 60.0, 60.0, 40.0] * 20) == []


def test_a_value_that_flaps_around_the_limit_is_one_alert() -> None:
    alerts = Alerts([replace(SLOW, lasting=0)], name="iris")
    assert steps(alerts, [51.0, 49.0] * 50) == [(0.0, "firing")]


def test_states_tell_how_each_rule_stands() -> None:
    alerts = Alerts([SLOW, AlertRule(metric="quality", below=0.9)], name="iris")
    assert [state.state for state in alerts.states()] == ["no data", "no data"]
    alerts.step(reading(p99=60.0, at=7.0), now=0.0)
    slow, quality = alerts.states()
    assert (slow.state, slow.value, slow.since) == ("pending", 60.0, 7.0)
    assert slow.words == "p99 is 60 ms, above 50 ms, not yet for 5s"
    assert (quality.state, quality.value, quality.words) == ("no data", None, "quality: no data yet")
    alerts.step(reading(p99=60.0, quality=0.95, at=9.0), now=5.0)
    slow, quality = alerts.states()
    assert (slow.state, slow.since, slow.words) == ("firing", 9.0, "p99 is 60 ms, above 50 ms for 5s")
    assert (quality.state, quality.words) == ("ok", "quality is 0.95")
    alerts.step(reading(at=10.0), now=6.0)
    slow, quality = alerts.states()
    assert (slow.state, slow.since, slow.words) == ("firing", 9.0, "p99 is 60 ms, above 50 ms for 5s, no data now")
    assert (quality.state, quality.words) == ("no data", "quality is 0.95, no data now")


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_no_data_fires_nothing_and_ends_nothing(nothing: float | None) -> None:
    alerts = Alerts([SLOW], name="iris")
    assert steps(alerts, [60.0, 60.0, 60.0, *[nothing] * 60]) == []
    assert steps(alerts, [60.0] * 4, start=63.0) == [(65.0, "firing")]
    assert steps(alerts, [nothing] * 600, start=67.0) == []
    assert alerts.states()[0].state == "firing"


def test_few_requests_are_no_data() -> None:
    alerts = Alerts([AlertRule(metric="error rate", above=0.05)], name="iris")
    assert alerts.step(reading(error_rate=1.0, requests=19), now=0.0) == []
    assert [one.state for one in alerts.step(reading(error_rate=1.0, requests=20), now=1.0)] == ["firing"]


def test_silence_counts_from_when_it_went_live_and_from_each_request() -> None:
    alerts = Alerts([AlertRule.of("silence > 3s")], name="iris")
    totals = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
    changes = [
        (second, change.state)
        for second, total in enumerate(totals)
        for change in alerts.step(reading(total=total, requests=0), now=float(second))
    ]
    assert changes == [(4, "firing"), (5, "resolved"), (12, "firing")]


@pytest.mark.parametrize("jump", [-1e9, -3600.0, 3600.0, 1e9])
def test_a_clock_that_jumps_neither_fires_nor_loses_an_alert(jump: float) -> None:
    rules = [AlertRule.of("p99 > 50 for 1m"), AlertRule.of("silence > 1m")]
    alerts = Alerts(rules, name="iris")
    alerts.step(reading(p99=60.0), now=100.0)
    assert alerts.step(reading(p99=60.0), now=100.0 + jump) == []
    changes = []
    for second in range(1, 62):
        changes += alerts.step(reading(p99=60.0, at=float(second)), now=100.0 + jump + second)
    assert {change.rule for change in changes} == set(rules)
    assert all(change.at >= 50 for change in changes)
    assert alerts.step(reading(p99=60.0), now=100.0) == []
    assert [state.state for state in alerts.states()] == ["firing", "firing"]


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=100))
def test_changes_alternate_and_are_numbered(values: list[float | None]) -> None:
    alerts = Alerts([replace(SLOW, lasting=2)], name="iris")
    changes: list[AlertChange] = []
    for second, value in enumerate(values):
        changes += alerts.step(reading(p99=value), now=float(second))
    assert [change.state for change in changes] == (["firing", "resolved"] * 50)[: len(changes)]
    assert [change.number for change in changes] == list(range(1, len(changes) + 1))
    assert all(change.value is not None and change.value > 50 for change in changes[::2])
    assert all(change.value is not None and change.value <= 45 for change in changes[1::2])


def test_it_moves_to_another_process_and_goes_on() -> None:
    alerts = Alerts([SLOW, DEFAULT_RULES[1], AlertRule.of("silence > 8s")], name="iris")
    alerts.step(reading(p99=60.0, crashes=1, total=5), now=1000.0)
    alerts.step(reading(p99=60.0, crashes=1, total=5), now=1003.0)
    moved: Alerts = pickle.loads(pickle.dumps(alerts))
    assert moved.states() == alerts.states()
    other = Alerts([SLOW, *DEFAULT_RULES, AlertRule.of("silence > 8s")], name="iris")
    other.resume(moved)
    assert other.step(reading(p99=60.0, crashes=1, total=5), now=3.0) == [], "another clock, no time passed"
    states = {state.rule.metric: state.state for state in other.states()}
    assert (states["p99"], states["error rate"], states["crashes"]) == ("pending", "no data", "firing")
    changes = other.step(reading(p99=60.0, crashes=1, total=5), now=5.0)
    assert [(change.number, change.rule) for change in changes] == [(2, SLOW)]
    assert [one.rule.metric for one in other.step(reading(p99=60.0, total=5), now=9.0)] == ["silence"]


def test_a_default_rule_tells_of_a_crash_at_once() -> None:
    alerts = Alerts(DEFAULT_RULES, name="iris")
    assert alerts.step(reading(crashes=0, error_rate=0.0, drift=0.0), now=0.0) == []
    (change,) = alerts.step(reading(crashes=1, error_rate=0.0, drift=0.0), now=1.0)
    assert (change.rule.name, change.words) == ("a replica crashed", "replica crashes: 1, above 0")
    (change,) = alerts.step(reading(crashes=0, error_rate=0.0, drift=0.0), now=2.0)
    assert change.state == "resolved"


def drifting(values: Sequence[float | None], *, rows: int) -> list[tuple[int, str]]:
    """Step the rules that hold by default once a second, while so many rows come; return when what changed."""
    alerts = Alerts(DEFAULT_RULES, name="iris")
    return [
        (second, change.words)
        for second, value in enumerate(values)
        for change in alerts.step(reading(drift=value, rows=second * rows), now=float(second))
    ]


def test_a_default_rule_tells_of_one_column_of_thirty_once_other_rows_have_come() -> None:
    told = "drift is 3.33 %, above 0 % for 5m and 500 rows"
    assert drifting([1 / 30] * 400, rows=10) == [(300, told)]
    assert drifting([1 / 30] * 1200, rows=1) == [(500, told)]
    assert drifting([0.0, *[1 / 30] * 400, 0.0], rows=10) == [(301, told), (401, "drift is 0 % again")]


def test_what_chance_did_to_drift_is_not_told() -> None:
    assert drifting([1 / 30] * 10_000, rows=0) == [], "no other rows came"
    assert drifting(([1 / 30] * 290 + [0.0] * 10) * 20, rows=1000) == []
    assert drifting(([1 / 30] * 490 + [0.0] * 10) * 5, rows=1) == []


def test_rows_are_counted_on_through_a_move() -> None:
    rule = AlertRule.of("drift > 0% for 0s and 100 rows")
    old, new = Alerts([rule], name="iris"), Alerts([rule], name="iris")
    old.step(reading(drift=0.5, rows=1000), now=0.0)
    old.step(reading(drift=0.5, rows=1060), now=1.0)
    new.resume(pickle.loads(pickle.dumps(old)))
    assert new.step(reading(drift=0.5, rows=1090), now=0.0) == []
    assert new.step(reading(drift=0.5, rows=3), now=1.0) == [], "counted from 0 again, which is no evidence"
    assert [change.state for change in new.step(reading(drift=0.5, rows=13), now=2.0)] == ["firing"]


@pytest.mark.parametrize(
    ("rule", "broken", "well", "words"),
    [
        ("error rate > 5%", 0.25, 0.043, "error rate is 4.3 % again, below 4.5 %"),
        ("p99 > 2 s", 2500.0, 300.0, "p99 is 300 ms again, below 1.8 s"),
        ("rate < 10", 2.0, 12.0, "rate is 12 req/s again, above 11 req/s"),
        ("quality < 0.9", 0.85, 0.95, "quality is 0.95 again, above 0.91"),
        ("crashes > 0", 1.0, 0.0, "replica crashes: 0 again"),
        ("dropped > 100", 500.0, 0.0, "predictions that the log lost: 0 again, below 90"),
    ],
)
def test_one_that_is_over_does_not_read_like_one_that_fires(rule: str, broken: float, well: float, words: str) -> None:
    alerts = Alerts([AlertRule.of(rule)], name="iris")
    field = alerts.rules[0].metric.replace(" ", "_")
    (fires,) = alerts.step(reading(**{field: broken}), now=0.0)
    (over,) = alerts.step(reading(**{field: well}), now=1.0)
    assert (over.state, over.words) == ("resolved", words)
    assert " again" not in fires.words
    assert over.to_json()["text"] == str(over) == f"iris v2: {words}"


def test_silence_that_is_over() -> None:
    alerts = Alerts([AlertRule.of("silence > 10 minutes")], name="iris")
    changes = [change for second in range(0, 700, 10) for change in alerts.step(reading(total=3), now=float(second))]
    changes += alerts.step(reading(total=4), now=700.0)
    assert [change.words for change in changes] == ["no request for 10m, above 10m", "requests come again"]


def test_states_and_changes_are_one_line_when_printed() -> None:
    alerts = Alerts([SLOW, AlertRule(metric="quality", below=0.9)], name="iris")
    alerts.step(reading(p99=60.0), now=0.0)
    (change,) = alerts.step(reading(p99=60.0), now=5.0)
    assert str(change) == "iris v2: p99 is 60 ms, above 50 ms for 5s"
    assert list(map(str, alerts.states())) == [
        "firing: p99 is 60 ms, above 50 ms for 5s", "no data: quality: no data yet",
    ]  # fmt: skip


def test_a_change_as_plain_values() -> None:
    alerts = Alerts([AlertRule.of("error rate > 5%")], name="iris")
    (change,) = alerts.step(reading(error_rate=0.25), now=0.0)
    assert json.loads(json.dumps(change.to_json())) == {
        "text": "iris v2: error rate is 25 %, above 5 %", "model": "iris", "version": 2,
        "alert": "error rate > 5 %", "state": "firing", "number": 1, "time": "2001-09-09T01:46:40.000+00:00",
        "metric": "error rate", "value": 0.25, "above": 0.05, "below": None, "lasting": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("error rate > 5% for 1m", AlertRule(metric="error rate", above=0.05, lasting=60)),
        ("error rate above 0.05 for 1m", AlertRule(metric="error rate", above=0.05, lasting=60)),
        ("p99>50ms", AlertRule(metric="p99", above=50)),
        (" p95 > 0.5 s for 30s ", AlertRule(metric="p95", above=500, lasting=30)),
        ("quality < 0.9", AlertRule(metric="quality", below=0.9)),
        ("quality below -0.5", AlertRule(metric="quality", below=-0.5)),
        ("silence > 10m", AlertRule(metric="silence", above=600)),
        ("silence > 1234.5", AlertRule(metric="silence", above=1234.5)),
        ("rate < 2/s", AlertRule(metric="rate", below=2)),
        ("crashes > 0", AlertRule(metric="crashes", above=0)),
        ("p99 > 2 s for 1 minute", AlertRule(metric="p99", above=2000, lasting=60)),
        ("P95 > 1.234567 seconds", AlertRule(metric="p95", above=1234.567)),
        ("p50 > 0.1 ms", AlertRule(metric="p50", above=0.1)),
        ("Error Rate > 5 % for 5 minutes", AlertRule(metric="error rate", above=0.05, lasting=300)),
        ("silence > 2 hours", AlertRule(metric="silence", above=7200)),
        ("drift > 0% for 5m and 1000 rows", AlertRule(metric="drift", above=0, lasting=300, rows=1000)),
        ("drift > 0 for 0s and 7 rows", AlertRule(metric="drift", above=0, rows=7)),
    ],
)
def test_a_rule_as_text(text: str, rule: AlertRule) -> None:
    assert AlertRule.of(text) == rule
    assert AlertRule.of(rule.name) == rule, "its name is text for the same rule"
    assert AlertRule.of(rule) is rule


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("p99 > 2 s", "p99 > 2 s"), ("p99 > 2000", "p99 > 2 s"), ("p99 > 0.5s", "p99 > 500 ms"),
        ("silence > 10m", "silence > 10m"), ("silence > 90", "silence > 90s"), ("error rate>5%", "error rate > 5 %"),
    ],
)  # fmt: skip
def test_a_rule_is_named_in_units_that_one_reads(text: str, name: str) -> None:
    assert AlertRule.of(text).name == name


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        ("p99 > 2 s", 12345.6, "p99 is 12.3 s, above 2 s"), ("p99 > 500 ms", 999.7, "p99 is 1 s, above 500 ms"),
        ("rate > 900", 999.7, "rate is 1000 req/s, above 900 req/s"),
    ],
)  # fmt: skip
def test_a_value_has_three_digits_in_units_that_one_reads(rule: str, value: float, words: str) -> None:
    alerts = Alerts([AlertRule.of(rule)], name="iris")
    (change,) = alerts.step(reading(**{alerts.rules[0].metric: value}), now=0.0)
    assert change.words == words


@pytest.mark.parametrize(
    ("rule", "clear"),
    [
        (AlertRule(metric="p99", above=50), 45),
        (AlertRule(metric="crashes", above=0), 0),
        (AlertRule(metric="quality", below=0.9), 0.91),
        (AlertRule(metric="quality", below=0.1), 0.11),
        (AlertRule(metric="quality", below=-0.5), -0.45),
        (AlertRule(metric="rate", below=10), 11),
        (AlertRule(metric="p99", above=50, clear=20), 20),
    ],
)
def test_where_an_alert_is_over(rule: AlertRule, clear: float) -> None:
    assert rule.clear == pytest.approx(clear)
    assert rule.clears(clear)
    assert not rule.breaks(clear)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metric": "p98", "above": 1}, "no metric 'p98' to alert on; did you mean 'p9"),
        ({"above": 1}, "needs a metric; there are: crashes"),
        ({"metric": "p99", "over": 1}, "A rule has no 'over'; did you mean 'above'?"),
        ({"metric": "p99"}, "needs one limit: above=, or below="),
        ({"metric": "p99", "above": 1, "below": 2}, "needs one limit"),
        ({"metric": "p99", "above": "1"}, "above on 'p99' cannot be '1'; give a number of 0 or more"),
        ({"metric": "p99", "above": float("nan")}, "cannot be nan"),
        ({"metric": "p99", "above": True}, "cannot be True"),
        ({"metric": "p99", "above": -1}, "a number of 0 or more"),
        ({"metric": "error rate", "above": 5}, "a share from 0 to 1, such as 0.05 for 5 %"),
        ({"metric": "p99", "above": 50, "clear": 51}, "clear on 'p99' cannot be 51; give a value inside the limit"),
        ({"metric": "p99", "above": 50, "minimum": 0}, "a whole number of requests, 1 or more"),
        ({"metric": "p99", "above": 50, "lasting": "soon"}, "lasting='soon': a number of seconds is needed"),
        ({"metric": "p99", "above": 50, "name": 3}, "give text"),
        ({"metric": "drift", "above": 0, "rows": -1}, "a whole number of rows, 0 or more"),
        ({"metric": "drift", "above": 0, "rows": True}, "a whole number of rows, 0 or more"),
        ("p99 is bad", "'p99 is bad' is no rule; write it like \"error rate > 5% for 1m\"."),
        ("p99 > 5%", "'p99' is not measured in %"),
        ("p99 > 5 apples", "'p99' is not measured in apples"),
        ("crashes > 5 s", "'crashes' is not measured in s"),
        ("p99 > 5 for soon", "lasting='soon': a number of seconds is needed"),
        ("speed > 5", "no metric 'speed'"),
        ("errors > 5%", "did you mean 'error rate'?"),
        ("error rate > 5", "'error rate > 5' lacks a \"%\": write \"error rate > 5%\"."),
        ("drift below 10 for 1m", 'write "drift below 10%".'),
        ("error rate > 150%", "cannot be 1.5; give a share from 0 to 1, such as 0.05 for 5 %."),
        ("accuracy < 0.9", "no metric 'accuracy' to alert on; \"quality\" is what labels tell: the accuracy of"),
        ("F1 < 0.9", '"quality" is what labels tell'),
        ({"metric": "MAE", "above": 3}, '"quality" is what labels tell'),
        ("latency > 50ms", "no metric 'latency' to alert on; latency is \"p50\", \"p95\" or \"p99\"."),
        ("p99 > 1.2.3", "is no rule"),
        (50, '50 is no rule; write it like "error rate > 5% for 1m", or give an AlertRule.'),
    ],
)  # fmt: skip
def test_refusals(given: Any, message: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        AlertRule.of(given)
    assert message in str(refused.value)


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="Two rules are called 'slow'"):
        Alerts([replace(SLOW, name="slow"), AlertRule(metric="p95", above=5, name="slow")], name="iris")
    assert Alerts([SLOW, SLOW], name="iris").rules == (SLOW,)


@given(st.floats(0, 1e6))
def test_durations_are_read_as_they_are_written(seconds: float) -> None:
    assert seconds_of(duration_text(seconds), what="hold") == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("1 minute", 60), ("5 minutes", 300), ("1 hour", 3600), ("2 hours", 7200), ("30 seconds", 30), ("1 second", 1),
     ("10sec", 10), ("5min", 300)],
)  # fmt: skip
def test_units_may_be_written_out(given: str, seconds: float) -> None:
    assert seconds_of(given, what="hold") == seconds


@given(st.floats(0, 1e7))
def test_a_span_is_as_exact_as_it_is_long(seconds: float) -> None:
    assert abs(seconds_of(span_text(seconds), what="span") - seconds) <= max(0.5, seconds / 40)


@pytest.mark.parametrize("given", ["", "1 day", "-1s", -1, None, True, float("inf"), 10**400])
def test_what_is_no_duration_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match="hold="):
        seconds_of(given, what="hold")
