"""The sliders of a split, in JavaScript, run by Node."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlnb.widgets.base import resources


def balanced(cases: list[tuple[list[int], int, int]]) -> list[list[int]]:
    """Return what the others become when one of the shares is moved, case by case."""
    source = f"{resources('traffic_sliders.js')}\nconst cases = {json.dumps(cases)};"
    code = f"{source}\nconsole.log(JSON.stringify(cases.map((one) => balanced(...one))));"
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", code], check=True, capture_output=True, text=True, timeout=30
    )
    shares: list[list[int]] = json.loads(done.stdout)
    return shares


@st.composite
def moves(draw: st.DrawFn) -> tuple[list[int], int, int]:
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=1, max_size=6)))
    shares = [after - before for before, after in zip([0, *cuts], [*cuts, 100], strict=True)]
    return shares, draw(st.integers(0, len(shares) - 1)), draw(st.integers(0, 100))


@settings(max_examples=3, deadline=None)  # of many moves each: Node takes long to start
@given(cases=st.lists(moves(), min_size=200, max_size=400))
def test_whatever_is_moved_they_add_up_and_keep_their_proportions(cases: list[tuple[list[int], int, int]]) -> None:
    for (shares, at, to), after in zip(cases, balanced(cases), strict=True):
        assert sum(after) == 100
        assert min(after) >= 0
        assert after[at] == to
        others = 100 - shares[at]
        for number, (before, now) in enumerate(zip(shares, after, strict=True)):
            wanted = (100 - to) * (before / others if others else 1 / (len(shares) - 1))
            assert number == at or abs(now - wanted) <= 1


@pytest.mark.parametrize(
    ("shares", "at", "to", "after"),
    [
        ([90, 10], 1, 25, [75, 25]),
        ([100, 0], 0, 60, [60, 40]),
        ([60, 30, 10], 0, 100, [100, 0, 0]),
        ([60, 30, 10], 2, 40, [40, 20, 40]),
        ([100, 0, 0], 0, 90, [90, 5, 5]),
    ],
)
def test_moves(shares: list[int], at: int, to: int, after: list[int]) -> None:
    assert balanced([(shares, at, to)]) == [after]
