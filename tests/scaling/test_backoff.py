from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from mlnb.scaling.backoff import Backoff


@given(st.lists(st.floats(0, 100), min_size=1, max_size=100))
def test_waits_are_bounded_and_the_first_starts_come_at_once(gaps: list[float]) -> None:
    backoff, now, waits = Backoff(), 0.0, []
    for gap in gaps:
        now += gap
        waits.append(backoff.ended(now))
    assert waits[:3] == [0.0] * len(waits[:3])
    assert all(0 <= wait <= 30 for wait in waits)


def test_it_waits_ever_longer_up_to_half_a_minute() -> None:
    backoff = Backoff()
    waits = [backoff.ended(number / 1000) for number in range(40)]
    assert waits[3:] == sorted(waits[3:])
    assert waits[-1] == 30.0


def test_what_ends_now_and_then_is_started_at_once_every_time() -> None:
    backoff = Backoff()
    assert {backoff.ended(30.0 * number) for number in range(100)} == {0.0}


@example(2000)
@given(st.integers(1, 100))
def test_a_quiet_minute_makes_it_forget(ends: int) -> None:
    backoff = Backoff()
    for number in range(ends):
        backoff.ended(number / 1000)
    assert backoff.ended(ends / 1000 + 60.1) == 0.0
