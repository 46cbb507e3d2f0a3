from __future__ import annotations

import math
import pickle
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlnb.errors import InvalidInputError, MissingLibraryError
from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.bounded import BoundedController
from mlnb.scaling.policies.decision import ScalingDecision, ScalingSample
from mlnb.scaling.policies.schedule import Schedule
from mlnb.scaling.service_time import ServiceTime
from mlnb.workspace.scaling_history import ScalingHistory

START = 1_700_000_000.0
RULES = {
    "utilisation": Autoscale.of(1, 4),
    "objective": Autoscale.of(1, 4, p95="80ms"),
    "in-flight": Autoscale.of(0, 4, policy="in-flight", idle="30s"),
    "cpu": Autoscale.of(1, 4, policy="cpu threshold"),
    "kubernetes": Autoscale.of(1, 4, policy="kubernetes"),
    "ray": Autoscale.of(1, 4, policy="ray", forecast=False),
    "queue wait": Autoscale.of(1, 4, policy="queue wait"),
}


def sample(at: float, rate: float, *, desired: int) -> ScalingSample:
    used = min(1.0, rate / (30 * max(1, desired)))
    return ScalingSample(
        at=at, wall=START + at, interval=0.5, desired=desired, ready=desired, requests=round(rate / 2),
        answered=round(rate / 2), in_flight=rate / 10, waiting=0.0, queue_wait=0.05 * used, utilisation=used,
        cpu=100 * used, p95=0.02 + 0.03 * used, service=ServiceTime(fixed=0.033),
    )  # fmt: skip


def lived(autoscale: Autoscale, *, count: int = 600) -> ScalingHistory:
    """Return what a controller decides on load that comes and goes, fed with what it decided."""
    controller, desired, decisions = BoundedController(autoscale), 1, []
    for at in range(count):
        rate = max(0.0, 90 * math.sin(at / 60))
        decision = controller.step(sample(at / 2, rate, desired=desired))
        desired = decision.desired
        decisions.append(replace(decision, applied=desired))
    return ScalingHistory(tuple(decisions), name="iris", autoscale=autoscale)


def decided(at: float, desired: int, *, rule: str = "target tracking", reason: str = "1.5 wanted") -> ScalingDecision:
    return ScalingDecision(
        sample=sample(at, 20.0, desired=1), metric="utilisation", value=0.91, target=0.7, wanted=desired,
        desired=desired, rule=rule, window=90.0, reason=reason, applied=desired,
    )  # fmt: skip


def history(*decisions: ScalingDecision) -> ScalingHistory:
    return ScalingHistory(decisions, name="iris", autoscale=RULES["objective"])


def unapplied(shown: ScalingHistory) -> tuple[ScalingDecision, ...]:
    return tuple(replace(one, applied=None) for one in shown)


@pytest.mark.parametrize("rule", RULES)
def test_every_decision_can_be_replayed(rule: str) -> None:
    live = lived(RULES[rule])
    replayed = live.replay(live.autoscale.policy)
    assert replayed.decisions == unapplied(live)
    assert replayed.changes == tuple(replace(one, applied=None) for one in live.changes)
    assert live.changes


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-10, 600), st.one_of(st.none(), st.floats(allow_nan=True))), max_size=40))
def test_samples_in_any_order_and_without_figures_are_replayed_the_same(given_ones: list[tuple[float, float]]) -> None:
    controller = BoundedController(RULES["utilisation"])
    samples = [replace(sample(at, 20.0, desired=2), utilisation=used) for at, used in given_ones]
    live = ScalingHistory(tuple(map(controller.step, samples)), name="iris", autoscale=RULES["utilisation"])
    replayed = live.replay(live.autoscale)
    assert repr(replayed.decisions) == repr(live.decisions)  # NaN is not equal to itself
    assert live._repr_html_().startswith("<p>iris: ")
    live.picture()


def test_another_policy_decides_otherwise_on_the_same_samples() -> None:
    live = lived(RULES["utilisation"])
    other = live.replay("kubernetes")
    assert [one.sample for one in other] == [one.sample for one in live]
    assert [one.desired for one in other] != [one.desired for one in live]
    assert {one.applied for one in other} == {None}
    assert (other.autoscale.least, other.autoscale.most) == (1, 4)
    assert other.words.startswith("iris: replayed, would want ")
    assert "at the end, 1 to 4 by load (" in other.words


def test_other_bounds_are_replayed_as_well() -> None:
    assert {one.desired for one in lived(RULES["utilisation"]).replay(Autoscale.of(2, 2))} == {2}
    assert "; " in lived(RULES["utilisation"]).replay(Autoscale.of(2, 2)).words


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        lived(RULES["utilisation"], count=2).replay("guess")


def test_it_is_a_frozen_sequence_of_decisions() -> None:
    first, second = decided(0.5, 1), decided(1.0, 2)
    shown = history(first, second)
    assert (len(shown), shown[0], shown[1:], list(shown)) == (2, first, (second,), [first, second])
    assert shown == history(first, second) == pickle.loads(pickle.dumps(shown))
    assert shown.changes == (second,)
    with pytest.raises(AttributeError):
        shown.name = "other"  # type: ignore[misc]


def test_changes_stand_between_what_was_held_for_which_reason() -> None:
    decisions = [decided(0.5 * at, 1, reason=f"{at} of 70 %") for at in range(480)]
    decisions += [decided(240.0, 2, reason="91 % of 70 %: 2 wanted")]
    decisions += [
        decided(240.5 + 0.5 * at, 2, rule="stabilised" if at % 20 < 10 else "hold", reason="more were wanted")
        for at in range(120)
    ]
    frame = history(*decisions).frame()
    assert list(frame["reason"]) == [
        "held 4 min: 479 of 70 %", "91 % of 70 %: 2 wanted", "held 30 s in 6 spells: more were wanted",
        "held 30 s in 6 spells: more were wanted",
    ]  # fmt: skip
    assert list(frame["held"]) == [240.0, 0.0, 30.0, 30.0]
    assert list(frame["desired"]) == [1, 2, 2, 2]
    every = history(*decisions).frame(every=True)
    assert len(every) == len(decisions)
    assert str(every["time"][480]) == "2023-11-14 22:17:20+00:00"
    assert list(every.columns) == [
        "time", "metric", "value", "target", "rule", "window", "wanted", "desired", "applied", "reason",
    ]  # fmt: skip


def test_the_first_decision_may_change_something_and_brief_holds_have_no_row() -> None:
    shown = history(decided(0.0, 2), decided(0.5, 2), decided(1.0, 3), decided(1.5, 3))
    assert [one.desired for one in shown.changes] == [2, 3]
    assert list(shown.frame()["desired"]) == [2, 3, 3]


def test_the_table_as_text() -> None:
    shown = history(decided(0.0, 1), decided(10.0, 2, reason="91 % of 70 %: 2 wanted"))
    summary, title, held, change = repr(shown).splitlines()
    assert summary == "iris: 2 replicas now, 1 to 4 by load (p95 under 80 ms); 1 change in 10 s"
    assert title.split() == ["time", "utilisation", "target", "rule", "desired", "applied", "reason"]
    assert held.endswith("held 10 s: 1.5 wanted")
    assert "91 %    70 %  target tracking    1 → 2        2  91 % of 70 %: 2 wanted" in change


def test_a_rule_that_ended_holds_no_more() -> None:
    ended = replace(history(decided(0.0, 1), decided(10.0, 2)), ended=True)
    assert ended.words == "iris: 2 replicas when that ended, 1 to 4 by load (p95 under 80 ms); 1 change in 10 s"
    assert "when that ended" not in ended.replay("ray").words
    assert "2 replicas when that ended" in ended._repr_html_()


def test_schedules_and_idle_are_named() -> None:
    office = Schedule(2, days="weekdays", start="08:00", end="18:00", zone="UTC")
    rule = Autoscale.of(0, 4, p95="80ms", schedules=[office], idle="5m")
    shown = replace(history(decided(0.0, 1)), autoscale=rule)
    assert (
        "0 to 4 by load (p95 under 80 ms, at least 2 on weekdays, 08:00 to 18:00 (UTC), "
        "none after 5m without a request); "
    ) in shown.words


def test_several_metrics_have_a_column() -> None:
    shown = history(decided(0.0, 1), replace(decided(10.0, 2), metric="queue wait", value=0.0042, target=None))
    text = repr(shown)
    assert " metric " in text.splitlines()[1]
    assert "4.2 ms" in text


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("CPU percent per replica", 71.2, "71.2 %"),
        ("in-flight per replica", 2.0, "2"),
        ("requests/s per replica", 20.0, "20/s"),
        ("utilisation", math.nan, "—"),
        ("queue wait", math.inf, "—"),
        ("", None, "—"),
    ],
)
def test_values_have_their_units(metric: str, value: float | None, shown: str) -> None:
    html = history(replace(decided(0.0, 1), metric=metric, value=value))._repr_html_()
    assert f'tabular-nums; white-space: nowrap">{shown}</td>' in html


def test_the_table_as_html_is_escaped_and_says_what_it_is_about() -> None:
    html = history(decided(0.0, 1), replace(decided(5.0, 2, reason="<b>busy</b>"), applied=None))._repr_html_()
    assert html.startswith("<p>iris: 2 replicas now, 1 to 4 by load (p95 under 80 ms); 1 change in ")
    assert "&lt;b&gt;busy&lt;/b&gt;" in html
    assert "<b>" not in html
    assert ">1 → 2</td>" in html
    assert ">90s</td>" in html
    assert "var(--jp-content-font-color2" in html  # what was held stands back


def test_moments_of_several_days_have_their_day() -> None:
    assert "2023-11-1" not in repr(history(decided(0.0, 1)))
    assert "2023-11-1" in repr(history(decided(0.0, 1), decided(200_000.0, 2)))


def test_an_empty_history_says_so() -> None:
    shown = history()
    assert repr(shown) == "iris: nothing decided yet, 1 to 4 replicas, p95 under 80 ms"
    assert shown._repr_html_() == f"<p>{shown!r}</p>"
    assert (len(shown), shown.changes, len(shown.frame()), shown.replay("ray").decisions) == (0, (), 0, ())
    assert shown.figure().layout.annotations[0].text == "iris: nothing decided yet"


def test_a_long_table_shows_its_end_and_says_what_it_leaves_out() -> None:
    shown = history(*(decided(0.5 * at, 1 + at // 2 % 2) for at in range(7000)))
    html = shown._repr_html_()
    assert html.count("<tr") == 61
    assert "… 3,440 earlier rows: .frame()" in html
    assert len(repr(shown).splitlines()) == 23
    assert len(shown.picture().changes) == 3499


def test_the_picture_has_what_was_measured() -> None:
    shown = lived(RULES["objective"])
    picture = shown.picture()
    assert {len(column) for column in (picture.at, picture.rate, picture.capacity, picture.ready, picture.p95)} == {600}
    assert (picture.name, picture.epoch) == ("iris", True)
    assert picture.objective == pytest.approx(80.0)
    assert picture.capacity[0] == pytest.approx(1 / 0.033)
    assert picture.p95[0] == pytest.approx(20.0)
    assert picture.rate[40] == shown[40].sample.requests * 2  # type: ignore[operator]
    assert [change[1] for change in picture.changes] == [one.desired for one in shown.changes]
    assert lived(RULES["cpu"], count=3).picture().objective is None


def test_what_was_not_measured_is_not_drawn() -> None:
    bare = ScalingSample(at=0.0, wall=START, interval=0.0, desired=0, ready=0)
    picture = history(replace(decided(0.0, 0), sample=bare)).picture()
    assert (picture.rate, picture.capacity, picture.p95, picture.ready) == ((None,), (None,), (None,), (0,))


def test_without_pandas_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingLibraryError, match="pip install pandas"):
        history(decided(0.0, 1)).frame()
