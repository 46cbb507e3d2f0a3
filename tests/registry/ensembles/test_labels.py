from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import NotServableError
from mlnb.registry.ensembles.labels import aligned, joined, places

LABELS = st.one_of(
    st.lists(st.integers(-5, 5), min_size=1, max_size=6, unique=True),
    st.lists(st.text("abc", min_size=1, max_size=2), min_size=1, max_size=6, unique=True),
)


@given(labels=LABELS, data=st.data())
def test_probabilities_keep_their_label_whatever_the_order(labels: list[Any], data: st.DataObject) -> None:
    """Each label's column is where the union has it; what a member never saw has probability 0."""
    members = {
        name: np.array(data.draw(st.permutations(labels))[: data.draw(st.integers(1, len(labels)))])
        for name in ("one", "other", "third")
    }
    union = joined(members)
    assert union.tolist() == sorted({label for known in members.values() for label in known.tolist()})
    for known in members.values():
        table = np.arange(2.0 * len(known)).reshape(2, -1) + 1
        found = aligned(table, known, union)
        told = [dict(zip(known.tolist(), row, strict=True)) for row in table.tolist()]
        assert found.tolist() == [[row.get(label, 0.0) for label in union.tolist()] for row in told]
        assert union[places(known, union)].tolist() == known.tolist()


def test_what_is_in_order_is_left_as_it_is() -> None:
    labels = np.array(["a", "b"], dtype=object)
    table = np.asfortranarray([[0.25, 0.75], [1.0, 0.0]])
    assert joined({"one": labels, "other": labels.copy()}) is labels
    assert aligned(table, labels.copy(), labels) is table


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([0, 1], ["a", "b"]),
        ([0.5, 1], np.array(["a", "b"], dtype=object)),
        (np.array([0, "a"], dtype=object), ["a", "b"]),
        (np.array([0, 1], dtype=object), ["a", "b"]),
        (np.array(["2026-01-01"], dtype="datetime64[D]"), [1, 2]),
    ],
)
def test_labels_that_cannot_be_compared_are_refused_with_both_members(one: Any, other: Any) -> None:
    with pytest.raises(NotServableError, match=r"The labels of 'net' \(.+\) and of 'forest' \(.+\) cannot be compared"):
        joined({"net": np.asarray(one), "forest": np.asarray(other)})


@pytest.mark.parametrize(
    ("one", "other", "union"),
    [
        ([2, 1], [3, 1], [1, 2, 3]),
        ([False, True], [0, 2], [0, 1, 2]),
        (["b"], np.array(["a", "ccc"], dtype=object), ["a", "b", "ccc"]),
        (np.array([2, 1], dtype=object), [1.5], [1, 1.5, 2]),
    ],
)
def test_labels_that_can(one: Any, other: Any, union: list[Any]) -> None:
    assert joined({"net": np.asarray(one), "forest": np.asarray(other)}).tolist() == union


@pytest.mark.parametrize(
    ("answers", "wrong"), [([1, 7], "7"), ([float("nan")], "nan"), (["x"], "'x'"), ([0.5, 1], "0.5")]
)
def test_an_answer_that_is_no_label(answers: list[Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=f"{wrong} is none of the labels 1, 2, 3"):
        places(np.array(answers), np.array([1, 2, 3]))
    assert places(np.array([]), np.array([1])).tolist() == []
