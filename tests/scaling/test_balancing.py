from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import InvalidInputError
from mlnb.scaling.balancing import POLICIES, Policy, policy_named


@dataclass(slots=True)
class Replica:
    key: str
    in_flight: int = 0
    weight: float = 1.0


def replicas(**weights: float) -> list[Replica]:
    return [Replica(key, weight=weight) for key, weight in weights.items()]


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - it hides nothing


def chosen(policy: Policy, candidates: Sequence[Replica], times: int, *, seed: int = 0) -> str:
    rng = seeded(seed)
    return "".join(policy.choose(candidates, rng=rng).key for _ in range(times))


loads = st.lists(st.tuples(st.integers(0, 9), st.floats(0.01, 100)), min_size=1, max_size=6)
presences = st.lists(st.sets(st.sampled_from("abcde"), min_size=1), min_size=1, max_size=60)


def test_there_are_five_by_the_names_they_bear() -> None:
    assert sorted(POLICIES) == ["least_loaded", "power_of_two", "random", "round_robin", "weighted"]
    assert all(policy_named(name).name == name for name in POLICIES)


def test_a_policy_is_fresh_each_time() -> None:
    two = replicas(a=1, b=1)
    assert [chosen(policy_named("round_robin"), two, 1) for _ in range(2)] == ["a", "a"]


def test_an_unknown_policy_is_told_what_there_is() -> None:
    with pytest.raises(InvalidInputError, match="'round-robin'; did you mean 'round_robin'"):
        policy_named("round-robin")


@pytest.mark.parametrize("name", POLICIES)
@given(data=loads, seed=st.integers())
def test_whoever_is_chosen_is_a_candidate(name: str, data: list[tuple[int, float]], seed: int) -> None:
    candidates = [Replica(str(at), *one) for at, one in enumerate(data)]
    rng, policy = seeded(seed), policy_named(name)
    assert all(policy.choose(candidates, rng=rng) in candidates for _ in range(10))


@pytest.mark.parametrize("name", POLICIES)
@given(data=loads, seed=st.integers())
def test_the_same_rng_gives_the_same_choices(name: str, data: list[tuple[int, float]], seed: int) -> None:
    candidates = [Replica(str(at), *one) for at, one in enumerate(data)]
    assert len({chosen(policy_named(name), candidates, 10, seed=seed) for _ in range(2)}) == 1


def test_round_robin_takes_turns() -> None:
    assert chosen(policy_named("round_robin"), replicas(a=1, b=1, c=1), 7) == "abcabca"


@given(presences)
def test_round_robin_never_takes_one_twice_while_another_waits(presences: list[set[str]]) -> None:
    policy, rng = policy_named("round_robin"), seeded(0)
    waiting: dict[str, set[str]] = {}  # who was passed over since this one was chosen, and was there all the time
    for present in presences:
        key = policy.choose(replicas(**dict.fromkeys(sorted(present), 1.0)), rng=rng).key
        assert not waiting.get(key, set()) & present
        waiting = {other: (those & present) - {key} for other, those in waiting.items()} | {key: present - {key}}


def test_who_joins_a_round_moves_nobody_elses_turn() -> None:
    policy, three = policy_named("round_robin"), replicas(a=1, b=1, c=1)
    assert chosen(policy, three[:2], 3) == "aba"
    assert chosen(policy, three, 6) == "cbacba"


def test_round_robin_lets_turns_pass_in_a_slow_start() -> None:
    counts = Counter(chosen(policy_named("round_robin"), replicas(a=1, b=1, c=0.1), 2100))
    assert abs(counts["a"] - counts["b"]) <= 1
    assert 60 <= counts["c"] <= 140


def test_weighted_gives_the_sequence_of_nginx() -> None:
    assert chosen(policy_named("weighted"), replicas(a=5, b=1, c=1), 14) == "aabacaaaabacaa"


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 100))
def test_weighted_is_exact_over_any_cycle(weights: list[int], skipped: int) -> None:
    candidates = [Replica(str(at), weight=weight) for at, weight in enumerate(weights)]
    policy, rng = policy_named("weighted"), seeded(0)
    for _ in range(skipped):
        policy.choose(candidates, rng=rng)
    counts = Counter(policy.choose(candidates, rng=rng).key for _ in range(sum(weights)))
    assert [counts[one.key] for one in candidates] == weights


@given(presences, st.integers(1, 5))
def test_weighted_is_exact_again_after_comings_and_goings(presences: list[set[str]], weight: int) -> None:
    policy, rng = policy_named("weighted"), seeded(0)
    for present in presences:
        policy.choose(replicas(**dict.fromkeys(sorted(present), 1.0)), rng=rng)
    two = replicas(y=weight, z=1)
    chosen(policy, two, 200)
    assert Counter(chosen(policy, two, weight + 1)) == {"y": weight, "z": 1}


def test_weighted_with_fractions_stays_exact_for_long() -> None:
    counts = Counter(chosen(policy_named("weighted"), replicas(a=0.7, b=0.2, c=0.1), 100_000))
    assert counts == {"a": 70_000, "b": 20_000, "c": 10_000}


@given(loads, st.integers())
def test_least_loaded_is_the_least_for_its_weight(data: list[tuple[int, float]], seed: int) -> None:
    candidates = [Replica(str(at), *one) for at, one in enumerate(data)]
    taken = policy_named("least_loaded").choose(candidates, rng=seeded(seed))
    assert taken.in_flight / taken.weight == min(one.in_flight / one.weight for one in candidates)


def test_the_least_loaded_share_an_idle_time_by_weight() -> None:
    counts = Counter(chosen(policy_named("least_loaded"), replicas(a=3, b=1), 4000))
    assert 2850 <= counts["a"] <= 3150


@pytest.mark.parametrize("name", ["random", "power_of_two"])
def test_an_idle_time_is_shared_by_weight(name: str) -> None:
    counts = Counter(chosen(policy_named(name), replicas(a=5, b=3, c=2), 10_000))
    assert {key: round(count, -3) for key, count in counts.items()} == {"a": 5000, "b": 3000, "c": 2000}


def test_power_of_two_never_takes_the_most_loaded() -> None:
    candidates = [Replica("a", 1), Replica("b", 5), Replica("c", 9)]
    assert set(chosen(policy_named("power_of_two"), candidates, 200)) == {"a", "b"}


@pytest.mark.parametrize(("name", "most"), [("random", 60), ("power_of_two", 6), ("least_loaded", 1)])
def test_how_uneven_a_policy_lets_it_become(name: str, most: int) -> None:
    candidates = [Replica(str(at)) for at in range(16)]
    policy, rng = policy_named(name), seeded(1)
    for _ in range(1600):
        policy.choose(candidates, rng=rng).in_flight += 1
    uneven = max(one.in_flight for one in candidates) - min(one.in_flight for one in candidates)
    assert uneven <= most
    assert name != "random" or uneven > 10  # the others would mean nothing


@pytest.mark.parametrize("name", ["round_robin", "weighted"])
def test_who_left_is_forgotten(name: str) -> None:
    policy = policy_named(name)
    for at in range(1000):
        chosen(policy, [Replica(str(at)), Replica(str(at + 1))], 1)
    remembered = getattr(policy, "_turns" if name == "round_robin" else "_credits")
    assert len(remembered) <= 16
