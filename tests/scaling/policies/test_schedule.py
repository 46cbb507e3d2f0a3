from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.schedule import Schedule, checked_bounds

BERLIN = "Europe/Berlin"


def wall(text: str, zone: str = BERLIN, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


OFFICE = Schedule(2, days="weekdays", start="08:00", end="18:00", zone=BERLIN)
NIGHT = Schedule(1, 2, days=("fri",), start="22:00", end="06:00", zone=BERLIN)


@pytest.mark.parametrize(
    ("schedule", "moment", "holds"),
    [
        (OFFICE, "2026-01-05 07:59:59", False),
        (OFFICE, "2026-01-05 08:00", True),
        (OFFICE, "2026-01-05 17:59:59", True),
        (OFFICE, "2026-01-05 18:00", False),
        (OFFICE, "2026-01-04 12:00", False),  # Sunday
        (NIGHT, "2026-01-09 21:59", False),
        (NIGHT, "2026-01-09 22:00", True),
        (NIGHT, "2026-01-10 05:59", True),  # Saturday, still the night of Friday
        (NIGHT, "2026-01-10 06:00", False),
        (NIGHT, "2026-01-10 23:00", False),
        (NIGHT, "2026-01-09 05:00", False),  # the night of Thursday
        (Schedule(2, days=["mon"], start="22:00", end="00:00", zone=BERLIN), "2026-01-05 23:59", True),
        (Schedule(2, days=["mon"], start="22:00", end="00:00", zone=BERLIN), "2026-01-06 00:00", False),
        (Schedule(2, days="weekends", zone=BERLIN), "2026-01-10 00:00", True),
        (Schedule(2, days="weekends", zone=BERLIN), "2026-01-12 00:00", False),
        (Schedule(2, days="sun", start="20:00", end="08:00", zone=BERLIN), "2026-01-12 07:00", True),
        (Schedule(2), "2026-01-12 07:00", True),
    ],
)
def test_when_it_holds(schedule: Schedule, moment: str, holds: bool) -> None:
    assert schedule.holds(wall(moment)) is holds


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "2026-07-01", "2026-12-01"])
def test_days_on_which_clocks_change_follow_the_clock_on_the_wall(day: str) -> None:
    schedule = Schedule(2, start="08:00", end="18:00", zone=BERLIN)
    start, end = wall(f"{day} 08:00"), wall(f"{day} 18:00")
    assert [schedule.holds(moment) for moment in (start - 1, start, end - 1, end)] == [False, True, True, False]


def test_a_start_in_the_hour_that_there_is_not_is_the_next_one() -> None:
    schedule = Schedule(2, start="02:30", end="05:00", zone=BERLIN)
    before = datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)  # 01:59:59 in Berlin, then 03:00
    assert not schedule.holds(before.timestamp())
    assert schedule.holds((before + timedelta(seconds=1)).timestamp())


def test_an_hour_that_comes_twice_holds_twice() -> None:
    schedule = Schedule(2, start="02:00", end="03:00", zone=BERLIN)
    assert schedule.holds(wall("2026-10-25 02:30"))
    assert schedule.holds(wall("2026-10-25 02:30", fold=1))
    assert not schedule.holds(wall("2026-10-25 03:00"))


def test_without_a_zone_it_is_the_machines_own() -> None:
    schedule = Schedule(2, start="08:00", end="18:00")
    noon = datetime(2026, 6, 1, 12).astimezone()
    assert schedule.holds(noon.timestamp())
    assert not schedule.holds((noon - timedelta(hours=8)).timestamp())


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_no_schedule_holds_at_a_moment_that_is_none(moment: float) -> None:
    assert not Schedule(2).holds(moment)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (OFFICE, "at least 2 on weekdays, 08:00 to 18:00 (Europe/Berlin)"),
        (NIGHT, "1 to 2 on fri, 22:00 to 06:00 (Europe/Berlin)"),
        (Schedule(3), "at least 3 every day"),
        (Schedule(0, 1, days=("sat", "sun")), "0 to 1 on sat, sun"),
    ],
)
def test_words(schedule: Schedule, words: str) -> None:
    assert schedule.words == words


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"least": 3, "most": 2}, "did you mean 2 to 3?"),
        ({"least": -1}, "least=-1 replicas: a whole number of 0 or more"),
        ({"least": True}, "least=True"),
        ({"least": 1.5}, "least=1.5"),
        ({"most": 0}, "most=0 replicas: a whole number of 1 or more"),
        ({"days": "weekday"}, "did you mean 'weekdays'?"),
        ({"days": ("mon", "tu")}, "did you mean 'tue'?"),
        ({"days": ()}, "needs a day at least"),
        ({"days": 5}, "given as text"),
        ({"days": [["mon"]]}, "given as text"),
        ({"start": "8"}, "start='8': a time of day is needed"),
        ({"start": "08:60"}, "start='08:60'"),
        ({"end": "24:01"}, "end='24:01'"),
        ({"start": 8}, "8: days, times and the zone"),
        ({"start": "24:00", "end": "08:00"}, "no time in it"),
        ({"start": "08:00", "end": "8:00"}, "no time in it"),
        ({"zone": "Europe/Berlyn"}, "did you mean 'Europe/Berlin'?"),
        ({"zone": "new york"}, "did you mean 'America/New_York'?"),
        ({"zone": "qqq"}, 'names are such as "Europe/Berlin"'),
        ({"zone": "../etc/passwd"}, "there is no such time zone"),
        ({"zone": 5}, "5: days, times and the zone"),
    ],
)
def test_what_cannot_hold_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Schedule(**{"least": 1, **given})
    assert says in str(caught.value)


def test_bounds_have_a_highest_one_where_it_is_said() -> None:
    checked_bounds(1, 64, highest=64)
    checked_bounds(1, 65)
    with pytest.raises(InvalidInputError, match="most=65 replicas: a whole number from 1 to 64 is needed"):
        checked_bounds(1, 65, highest=64)


def test_it_is_a_value() -> None:
    assert pickle.loads(pickle.dumps(NIGHT)) == NIGHT
    assert Schedule(2, days=["mon", "tue"]) == Schedule(2, days=("mon", "tue"))
    assert len({OFFICE, NIGHT, OFFICE}) == 2
