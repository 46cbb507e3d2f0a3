from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest
from snapshots import NOW, snapshot

from mlnb.scaling.pool import ReplicaSnapshot
from mlnb.widgets.scale_view import Ended, follow
from mlnb.workspace import DeploymentSnapshot

LATER = NOW + timedelta(seconds=1)
State = Literal["ready", "starting", "waiting", "leaving"]


def seen(states: dict[int, State], *, trouble: str = "") -> DeploymentSnapshot:
    replicas = tuple(ReplicaSnapshot(key=key, state=state) for key, state in states.items())
    return snapshot(replicas=replicas, trouble=trouble, at=NOW)


@pytest.mark.parametrize(
    ("before", "now", "keys"),
    [
        ({1: "ready", 2: "ready"}, {1: "ready", 3: "starting"}, (2,)),
        ({1: "ready", 2: "ready"}, {1: "ready", 3: "ready"}, (2,)),
        ({1: "ready", 2: "ready"}, {3: "waiting", 4: "waiting"}, (1, 2)),
        ({1: "ready", 2: "starting"}, {1: "ready", 3: "waiting"}, ()),
        ({1: "ready"}, {1: "ready"}, ()),  # it came and went between two looks
    ],
)
def test_who_ended(before: dict[int, State], now: dict[int, State], keys: tuple[int, ...]) -> None:
    after = replace(seen(now, trouble="killed"), at=LATER)
    assert follow(None, seen(before), after) == Ended(keys=keys, at=LATER)


def test_the_same_trouble_twice_is_news_only_if_a_replica_was_replaced() -> None:
    known = Ended(keys=(1,), at=NOW)
    before = seen({2: "ready", 3: "ready"}, trouble="it hangs")
    for now in (seen({2: "ready", 3: "ready"}), seen({2: "ready"}), seen({2: "ready", 3: "ready", 4: "starting"})):
        assert follow(known, before, replace(before, replicas=now.replicas, at=LATER)) == known
    replaced = replace(before, replicas=seen({2: "ready", 4: "starting"}).replicas, at=LATER)
    assert follow(known, before, replaced) == Ended(keys=(3,), at=LATER)


def test_what_happened_before_anybody_looked_has_no_time() -> None:
    assert follow(None, None, seen({2: "ready"}, trouble="killed")) == Ended()


def test_trouble_that_is_over_is_forgotten() -> None:
    assert follow(Ended(keys=(1,), at=NOW), seen({2: "ready"}, trouble="killed"), seen({1: "ready"})) is None
