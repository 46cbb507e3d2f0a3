from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import RegistryFormatError
from mlnb.registry.history import Action, HistoryEvent, aliases, live_stack, previous

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def events(*deeds: tuple[Action, int]) -> list[HistoryEvent]:
    return [HistoryEvent(number, action, version, NOW) for number, (action, version) in enumerate(deeds, start=1)]


@pytest.mark.parametrize(
    ("deeds", "stack"),
    [
        ([], ()),
        ([("registered", 1)], ()),
        ([("deployed", 1), ("deployed", 1)], (1,)),
        ([("deployed", 1), ("deployed", 2), ("rolled back", 1)], (1,)),
        ([("deployed", 1), ("deployed", 2), ("deployed", 3), ("rolled back", 2), ("deployed", 4)], (1, 2, 4)),
        ([("deployed", 2), ("rolled back", 1)], (2, 1)),
        ([("deployed", 1), ("deployed", 2), ("stopped", 2), ("deployed", 3)], (1, 2, 3)),
    ],
)
def test_live_stack(deeds: list[tuple[Action, int]], stack: tuple[int, ...]) -> None:
    assert live_stack(events(*deeds)) == stack


def test_two_rollbacks_go_two_versions_back() -> None:
    deeds: list[tuple[Action, int]] = [("deployed", 1), ("deployed", 2), ("deployed", 3)]
    assert previous(events(*deeds)) == 2
    assert previous(events(*deeds, ("rolled back", 2))) == 1
    assert previous(events(*deeds, ("rolled back", 2), ("rolled back", 1))) is None


@given(st.lists(st.tuples(st.sampled_from(["deployed", "rolled back", "stopped"]), st.integers(1, 5))))
def test_the_last_version_deployed_or_rolled_back_to_is_live(deeds: list[tuple[Action, int]]) -> None:
    stack = live_stack(events(*deeds))
    made_live = [version for action, version in deeds if action != "stopped"]
    assert stack[-1:] == tuple(made_live[-1:])
    assert all(first != second for first, second in pairwise(stack))


def test_an_alias_means_what_it_was_last_given_to() -> None:
    given_twice = [HistoryEvent(1, "aliased", 1, NOW, "champion"), HistoryEvent(2, "aliased", 3, NOW, "champion")]
    assert aliases(given_twice) == {"champion": 3}


def test_an_event_reads_back() -> None:
    event = HistoryEvent(7, "aliased", 3, NOW, "champion")
    assert HistoryEvent.from_json(7, event.to_json()) == event


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(RegistryFormatError, match="event 'exploded' that this mlnb does not know"):
        HistoryEvent.from_json(1, {"action": "exploded", "version": 1, "at": NOW.isoformat()})
