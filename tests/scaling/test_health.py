from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.scaling.health import (
    FAILURES,
    FIRST_EJECTION,
    FIRST_SHARE,
    LONGEST_EJECTION,
    SLOW_START,
    Health,
    available,
)


@dataclass(slots=True, eq=False)
class Replica:
    health: Health = field(default_factory=Health)


def ejected(at: float = 0.0, *, checked: bool = False) -> Health:
    health = Health(checked=checked)
    health.failed(at, refused=True)
    return health


happenings = st.lists(
    st.tuples(st.floats(0, 40), st.sampled_from(["failed", "refused", "succeeded"])), min_size=1, max_size=40
)


def live(health: Health, steps: list[tuple[float, str]]) -> float:
    """Let things happen, each some seconds after the one before; return the time."""
    now = 0.0
    for later, what in steps:
        now += later
        if what == "succeeded":
            health.succeeded(now)
        else:
            health.failed(now, refused=what == "refused")
    return now


def test_a_new_one_is_in_with_all_its_share() -> None:
    assert (Health().is_in(0), Health().share(0), Health().is_due(0)) == (True, 1.0, False)
    assert (Health().failed_at, Health().out_until) == (-inf, -inf)


def test_failures_in_a_row_eject() -> None:
    health = Health()
    for at in range(FAILURES - 1):
        health.failed(at)
    assert health.is_in(FAILURES)
    health.failed(FAILURES)
    assert not health.is_in(FAILURES)
    assert (health.share(FAILURES), health.out_until) == (0.0, FAILURES + FIRST_EJECTION)


def test_failures_with_a_success_between_do_not() -> None:
    health = Health()
    for at in range(10 * FAILURES):
        health.failed(at)
        if at % (FAILURES - 1) == FAILURES - 2:
            health.succeeded(at)
    assert health.is_in(10 * FAILURES)


def test_a_refused_connection_ejects_at_once() -> None:
    assert not ejected().is_in(0)


def test_it_comes_back_slowly() -> None:
    health = ejected()
    shares = [health.share(FIRST_EJECTION + SLOW_START * part) for part in (-0.01, 0, 0.5, 1, 2)]
    assert shares == [0.0, FIRST_SHARE, pytest.approx((1 + FIRST_SHARE) / 2), 1.0, 1.0]


def test_one_failure_ejects_who_comes_back_for_twice_the_time() -> None:
    health, spans, now = ejected(), [], 0.0
    for _ in range(8):
        spans.append(health.out_until - now)
        now = health.out_until
        health.failed(now)
    assert spans == [1, 2, 4, 8, 16, 30, 30, 30]
    assert max(spans) == LONGEST_EJECTION


def test_a_success_after_the_slow_start_makes_the_next_ejection_short_again() -> None:
    health = ejected()
    health.failed(FIRST_EJECTION)
    health.succeeded(health.out_until + SLOW_START)
    health.failed(100, refused=True)
    assert health.out_until == 100 + FIRST_EJECTION


def test_a_success_before_that_does_not() -> None:
    health = ejected()
    health.succeeded(FIRST_EJECTION + SLOW_START / 2)
    health.failed(FIRST_EJECTION + SLOW_START / 2)
    assert health.out_until == FIRST_EJECTION + SLOW_START / 2 + 2 * FIRST_EJECTION


def test_what_was_in_flight_when_it_was_ejected_changes_nothing() -> None:
    health = ejected()
    for at in (0.1, 0.2, 0.3):
        health.failed(at, refused=True)
    health.succeeded(0.4)
    assert (health.is_in(0.5), health.out_until) == (False, FIRST_EJECTION)


def test_one_that_is_looked_after_waits_for_the_check() -> None:
    health = ejected(checked=True)
    assert [health.is_due(at) for at in (0, 0.9, 1, 1000)] == [False, False, True, True]
    assert not health.is_in(1000)
    health.succeeded(1000)
    assert (health.share(1000), health.is_due(1000)) == (FIRST_SHARE, False)


@given(happenings, st.booleans())
def test_it_can_always_come_back(steps: list[tuple[float, str]], checked: bool) -> None:
    health = Health(checked=checked)
    now = live(health, steps) + LONGEST_EJECTION
    health.succeeded(now)
    assert health.is_in(now)
    assert health.share(now + SLOW_START) == pytest.approx(1)


@given(happenings, st.booleans(), st.floats(0, 100))
def test_its_share_says_whether_it_is_in(steps: list[tuple[float, str]], checked: bool, later: float) -> None:
    health = Health(checked=checked)
    now = live(health, steps) + later
    share = health.share(now)
    assert (share == 0) == (not health.is_in(now))
    assert share == 0 or FIRST_SHARE <= share <= 1
    assert health.out_until - now <= LONGEST_EJECTION


@given(happenings, st.floats(0, 50), st.floats(0, 50))
def test_its_share_only_grows_while_nothing_happens(
    steps: list[tuple[float, str]], sooner: float, later: float
) -> None:
    health = Health()
    now = live(health, steps)
    first, second = sorted([sooner, later])
    assert health.share(now + first) <= health.share(now + second)


def test_those_that_are_in_are_available() -> None:
    members = [Replica(), Replica(ejected()), Replica()]
    assert available(members, now=0) == [members[0], members[2]]
    assert available(members, now=FIRST_EJECTION) == members


def test_if_all_are_out_those_whose_failure_is_the_longest_ago_are() -> None:
    members = [Replica(ejected(0.2)), Replica(ejected(0.1)), Replica(ejected(0.1))]
    assert available(members, now=0.3) == members[1:]
    members[1].health.failed(0.3)
    members[2].health.failed(0.4)
    assert available(members, now=0.5) == members[:1]


def test_nobody_of_none() -> None:
    assert available([], now=0) == []


@given(st.lists(happenings, min_size=1, max_size=5), st.booleans())
def test_somebody_is_always_available(lives: list[list[tuple[float, str]]], checked: bool) -> None:
    members = [Replica(Health(checked=checked)) for _ in lives]
    now = max(live(member.health, steps) for member, steps in zip(members, lives, strict=True))
    able = available(members, now=now)
    assert able
    assert all(one.health.is_in(now) for one in able) == any(one.health.is_in(now) for one in members)
