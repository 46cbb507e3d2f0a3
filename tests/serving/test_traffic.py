from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlnb
from mlnb.errors import InvalidInputError
from mlnb.serving.traffic import Split, checked_share, checked_weights, key_of, key_text

SPACE = 2**32
CHOSEN = "2313222212221113122313311121211121221222"
KEYS: dict[str, Callable[[int], bytes]] = {
    "numbers": lambda number: str(number).encode(),
    "names": lambda number: f"customer {number}".encode(),
    "ids": lambda number: str(UUID(int=number * 0x9E3779B97F4A7C15 % 2**128)).encode(),
    "eight bytes": lambda number: number.to_bytes(8, "big"),
    "long": lambda number: b"x" * 200 + str(number).encode(),
}

weights = st.dictionaries(
    st.integers(1, 6), st.one_of(st.integers(0, 100), st.floats(0, 1e6, allow_nan=False)), min_size=1, max_size=6
).filter(lambda given: any(given.values()))
changes = settings(derandomize=True, max_examples=300, deadline=None)


def parts(given: dict[int, float]) -> dict[int, Fraction]:
    """Return the exact part of each version."""
    total = sum(map(Fraction, given.values()))
    return {version: Fraction(weight) / total for version, weight in given.items()}


def distance(one: dict[int, float], other: dict[int, float]) -> Fraction:
    """Return the total variation distance of two sets of weights: what must move at least."""
    a, b = parts(one), parts(other)
    apart = sum((abs(a.get(version, Fraction()) - b.get(version, Fraction())) for version in {*a, *b}), Fraction())
    return apart / 2


# ---- shares ----


@pytest.mark.parametrize("form", KEYS)
@pytest.mark.parametrize("given", [{1: 90, 2: 10}, {1: 1, 2: 1, 3: 1}, {1: 99, 2: 1}, {1: 0.5, 2: 0.3, 3: 0.2}])
def test_each_version_has_its_share_of_100_000_keys(form: str, given: dict[int, float]) -> None:
    split, key = Split.of(given, salt="iris"), KEYS[form]
    found = Counter(split.choose(key(number)) for number in range(100_000))
    for version, part in parts(given).items():
        assert abs(found[version] / 100_000 - part) < 0.005


@given(weights)
@changes
def test_shares_are_the_weights(given: dict[int, float]) -> None:
    split = Split.of(given, salt="iris")
    assert split.slices[-1][0] == SPACE
    assert sum(split.shares.values()) == pytest.approx(1)
    for version, part in parts(given).items():
        assert split.shares.get(version, 0.0) == pytest.approx(float(part), abs=1e-8)


def test_a_version_of_weight_0_answers_nobody() -> None:
    split = Split.of({1: 0, 2: 5, 3: 0}, salt="iris")
    assert split.slices == ((SPACE, 2),)
    assert split.changed({1: 5, 2: 0}).slices == ((SPACE, 1),)


def test_models_share_out_the_same_keys_independently() -> None:
    one, other = (Split.of({1: 1, 2: 1}, salt=salt) for salt in ("iris", "tumour"))
    alike = np.mean([one.choose(b"%d" % number) == other.choose(b"%d" % number) for number in range(20_000)])
    assert abs(alike - 0.5) < 0.02


# ---- changes ----


def test_from_10_to_20_percent_just_the_10_points_move() -> None:
    before = Split.of({1: 90, 2: 10}, salt="iris")
    after = before.changed({1: 80, 2: 20})
    moves = Counter(
        (before.choose(key), after.choose(key)) for key in (b"customer %d" % number for number in range(100_000))
    )
    assert set(moves) == {(1, 1), (2, 2), (1, 2)}
    assert abs(moves[1, 2] / 100_000 - 0.1) < 0.005
    assert before.moved(after) == pytest.approx(0.1, abs=1e-9)


@given(st.lists(weights, min_size=2, max_size=8))
@changes
def test_a_change_moves_no_more_than_it_must_however_many_came_before(given: list[dict[int, float]]) -> None:
    split = Split.of(given[0], salt="iris")
    for one, other in pairwise(given):
        after = split.changed(other)
        assert split.moved(after) == pytest.approx(float(distance(one, other)), abs=1e-8)
        assert after.moved(split) == split.moved(after)
        for version, part in parts(other).items():
            assert after.shares.get(version, 0.0) == pytest.approx(float(part), abs=1e-8)
        split = after


@given(weights, weights)
@changes
def test_no_key_leaves_a_version_that_grows(before: dict[int, float], after: dict[int, float]) -> None:
    one = Split.of(before, salt="iris")
    other = one.changed(after)
    grows = {version for version, share in other.shares.items() if share >= one.shares.get(version, 0.0) + 1e-8}
    for number in range(200):
        key = b"%d" % number
        if one.choose(key) in grows:
            assert other.choose(key) == one.choose(key)


@given(weights)
@changes
def test_the_same_weights_at_another_scale_change_nothing(given: dict[int, float]) -> None:
    split = Split.of(given, salt="iris")
    assert split.changed({version: 4 * weight for version, weight in given.items()}) == split


def test_slices_do_not_become_ever_more() -> None:
    split = Split.of({1: 50, 2: 50}, salt="iris")
    for turn in range(500):
        split = split.changed({1: 50 + turn % 40, 2: 50 - turn % 40, 3: turn % 7})
        assert len(split.slices) <= 3 * 8


def test_a_new_field_of_the_key_moves_no_slice() -> None:
    split = Split.of({1: 50, 2: 50}, salt="iris", key="user")
    assert split.changed({1: 50, 2: 50}).key is None
    assert split.changed({1: 50, 2: 50}, key="shop").slices == split.slices


@pytest.mark.parametrize("given", [{1: 1e-12, 2: 1}, {1: 5e-324, 2: 1e308}, {1: 1, 2: 2**-40}])
def test_weights_too_small_for_a_single_point(given: dict[int, float]) -> None:
    split = Split.of(given, salt="iris")
    assert split.choose(b"any") == max(given, key=lambda version: given[version])
    assert split.changed({1: 1, 2: 1}).shares == {1: 0.5, 2: 0.5}


# ---- the same everywhere ----

PROGRAM = """
import json, sys
from mlnb.serving.traffic import Split
split = Split.from_json(json.loads(sys.argv[1]), salt="iris")
print(json.dumps([split.choose(b"customer %d" % number) for number in range(2000)]))
"""


@pytest.mark.parametrize("seed", ["0", "17"])
def test_another_process_chooses_the_same(seed: str) -> None:
    split = Split.of({1: 70, 2: 20, 3: 10}, salt="iris").changed({1: 30, 2: 40, 3: 30}).changed({1: 60, 4: 40})
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(split.to_json())],
        env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(told.stdout) == [split.choose(b"customer %d" % number) for number in range(2000)]


def test_what_was_chosen_by_the_first_release_is_chosen_for_ever() -> None:
    split = Split.of({1: 60, 2: 30, 3: 10}, salt="iris")
    assert "".join(str(split.choose(b"customer %d" % number)) for number in range(40)) == CHOSEN


@given(weights, weights)
@changes
def test_the_stored_form(before: dict[int, float], after: dict[int, float]) -> None:
    split = Split.of(before, salt="iris", key="user").changed(after, key="user")
    again = Split.from_json(json.loads(json.dumps(split.to_json())), salt="iris")
    assert again == split
    assert [again.choose(b"%d" % number) for number in range(50)] == [
        split.choose(b"%d" % number) for number in range(50)
    ]


RESTARTED = """
import json, sys
import mlnb
deployment = mlnb.deploy("constant:1")
if len(sys.argv) > 1:
    deployment.split(json.loads(sys.argv[1]))
split = deployment._hosted.split
print(json.dumps([split.choose(b"customer %d" % number) for number in range(2000)]))
"""


def test_a_kernel_that_starts_anew_goes_on_from_the_split_in_the_history(registry: mlnb.ModelRegistry) -> None:
    for number in (1, 2):
        registry.register(lambda rows, number=number: np.full(len(rows), number), "constant", example=[[0.0]])

    def chosen(weights: dict[str, int]) -> list[int]:
        told = subprocess.run(
            [sys.executable, "-c", RESTARTED, json.dumps(weights)], capture_output=True, check=True, timeout=60
        )
        found: list[int] = json.loads(told.stdout)
        return found

    first = chosen({"1": 90, "2": 10})
    second, third = chosen({"1": 80, "2": 20}), chosen({"1": 90, "2": 10})
    assert third == first
    assert set(zip(first, second, strict=True)) == {(1, 1), (2, 2), (1, 2)}


# ---- keys ----


@pytest.mark.parametrize(
    "alike",
    [
        [17, 17.0, "17", np.int64(17), np.float32(17), np.str_("17")],
        [0.5, "0.5", np.float64(0.5)],
        [True, "True", np.bool_(True)],
        [None, "None"],
        [2**60, float(2**60), np.int64(2**60)],
    ],
)
def test_a_key_is_the_same_whatever_its_type(alike: list[Any]) -> None:
    assert len({key_text(one) for one in alike}) == 1


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, "", "é", "\ud800", b"\x00", [1, 2], {"a": 1}, 10**400])
def test_odd_keys_are_keys(odd: Any) -> None:
    assert isinstance(key_text(odd), bytes)


@pytest.mark.parametrize(
    "rows",
    [
        [[5.0, 17], [6.0, 18]],
        [{"size": 5.0, "user": 17}, {"size": 6.0, "user": 18}],
        np.array([[5.0, 17.0], [6.0, 18.0]]),
        pd.DataFrame({"size": [5.0, 6.0], "user": [17, 18]}, index=[7, 8]),
    ],
)
def test_the_key_of_the_first_row(rows: Any) -> None:
    assert key_of(rows, "user", 1) == b"17"


@pytest.mark.parametrize("rows", [[], [[]], [[1.0]], [{}], [None], [5], np.empty((0, 2)), pd.DataFrame({"size": [1]})])
def test_rows_without_the_field_have_no_key(rows: Any) -> None:
    assert key_of(rows, "user", 1) is None


# ---- what people give ----


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Weights are numbers"),
        (None, "got None"),
        ([90, 10], "Weights are numbers"),
        ({"a": -1, "b": 2}, "'a' has -1"),
        ({"a": math.nan}, "'a' has nan"),
        ({"a": math.inf}, "'a' has inf"),
        ({"a": "90"}, "'a' has '90'"),
        ({"a": True, "b": 1}, "'a' has True"),
        ({"a": None}, "'a' has None"),
        ({"a": 1j}, "'a' has 1j"),
        ({"a": 0, "b": 0.0}, "all of these are 0"),
        ({"a": 10**400}, "'a' has 1000"),
        ({"a": 1e308, "b": 1e308}, None),
        ({"a": np.float32(3), "b": np.int64(1)}, None),
        ({"a": Fraction(1, 3)}, None),
    ],
)
def test_weights(given: Any, words: str | None) -> None:
    if words is None:
        assert checked_weights(given) == {name: float(weight) for name, weight in given.items()}
        assert sum(Split.of(dict(enumerate(checked_weights(given).values())), salt="a").shares.values()) == 1
        return
    with pytest.raises(InvalidInputError, match=words):
        checked_weights(given)


@pytest.mark.parametrize("share", [0, -1, 100.1, math.nan, math.inf, "50", True, None])
def test_a_share_that_is_none(share: Any) -> None:
    with pytest.raises(InvalidInputError, match="above 0 and at most 100"):
        checked_share(share)


@pytest.mark.parametrize("share", [100, 0.01, np.float64(5)])
def test_a_share(share: Any) -> None:
    assert checked_share(share) == float(share)
