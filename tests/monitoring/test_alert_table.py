from __future__ import annotations

import pytest

from mlnb.monitoring.alert_table import AlertTable
from mlnb.monitoring.alerts import DEFAULT_RULES, AlertRule, Alerts, Reading


@pytest.fixture
def alerts() -> Alerts:
    alerts = Alerts(
        [
            AlertRule.of("p99 > 50 ms for 10s"),
            AlertRule.of("error rate > 5% for 1m"),
            AlertRule(metric="rate", below=2, name="<b>quiet</b>"),
            AlertRule.of("quality < 0.9"),
        ],
        name="iris",
    )
    for second in range(0, 40, 10):
        alerts.step(
            Reading(at=1000.0 + second, version=2, requests=50, p99=2500.0, error_rate=0.5, rate=7.0),
            now=float(second),
        )
    return alerts


def test_it_is_a_table_in_text(alerts: Alerts) -> None:
    table = AlertTable(alerts.states(), at=1310.0)
    lines = repr(table).splitlines()
    assert lines[0].split() == ["state", "rule", "now", "for"]
    assert lines[1].split("  ")[0] == "▲ firing"
    assert lines[1].split("  ", 1)[1].split() == ["p99", ">", "50", "ms", "for", "10s", "2.5", "s", "5m"]
    assert lines[2].split() == ["△", "pending", *"error rate > 5 % for 1m 50 % 5m".split()]  # noqa: SIM905 - as it reads
    assert "<b>quiet</b> (rate < 2 req/s)" in lines[3]
    assert lines[3].endswith("7 req/s"), "what is well has no time"
    assert lines[4].split("  ")[0] == "— no data"
    assert max(map(len, lines)) <= 100


def test_it_is_a_table_in_a_notebook(alerts: Alerts) -> None:
    html = AlertTable(alerts.states(), at=1310.0)._repr_html_()
    assert html.count("<tr") == 5
    assert "&lt;b&gt;quiet&lt;/b&gt; (rate &lt; 2 req/s)" in html
    assert "<b>" not in html
    assert 'title="p99 is 2.5 s, above 50 ms for 10s"' in html
    assert html.count("--jp-error-color1") == 1
    assert html.count("nowrap") == 5 * 4


def test_it_is_a_sequence_of_states(alerts: Alerts) -> None:
    states = alerts.states()
    table = AlertTable(states, at=1310.0)
    assert len(table) == 4
    assert table[0] is states[0]
    assert table[1:3] == states[1:3]
    assert [one.state for one in table] == ["firing", "pending", "ok", "no data"]


def test_without_rules_it_says_how_to_get_them() -> None:
    table = AlertTable((), at=0.0)
    assert "deployment.watch()" in repr(table)
    assert "deployment.watch()" in table._repr_html_()


def test_before_the_first_reading_nothing_is_known() -> None:
    lines = repr(AlertTable(Alerts(DEFAULT_RULES, name="iris").states(), at=1e9)).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["— no data"] * 3
    assert "a column drifted (drift > 0 %)" in lines[3]
    assert "a replica crashed (crashes > 0)" in lines[2]
