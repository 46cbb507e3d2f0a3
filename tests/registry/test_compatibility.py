from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlnb.registry.compatibility import misfit
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature

FRAME = pd.DataFrame({"size": [1.5, 2.5], "user": [1, 2], "colour": pd.Categorical(["red", "blue"])})


def taking(example: Any, **changes: Any) -> Signature:
    return replace(infer_signature(None, example), **changes)


def categories(*names: str) -> pd.DataFrame:
    return FRAME.assign(colour=pd.Categorical(["red", "red"], categories=list(names)))


@pytest.mark.parametrize(
    ("asked", "answering"),
    [
        (taking(FRAME), taking(FRAME)),
        (taking(FRAME), taking(FRAME.assign(user=[1.5, 2.5]))),
        (taking(FRAME.assign(user=[True, False])), taking(FRAME)),
        (taking(FRAME), taking(FRAME.assign(size=[np.nan, 1.0]))),
        (taking(categories("red")), taking(categories("red", "blue"))),
        (taking([[1.0, 2.0]]), taking(np.ones((3, 2)))),
        (taking(None), taking(FRAME)),
        (taking(FRAME), taking(None)),
        (taking(FRAME, output="class"), taking(FRAME, output="any")),
        (taking(FRAME, output="class", labels=("a", "b")), taking(FRAME, output="class", labels=("b", "a", "c"))),
        (taking(FRAME, output="class", labels=(0, 1)), taking(FRAME, output="class", labels=(True, False))),
        (taking(FRAME, output="class", labels=("a",)), taking(FRAME, output="class", labels=None)),
        (taking(FRAME, probabilities=False), taking(FRAME, probabilities=True)),
    ],
)
def test_versions_that_fit(asked: Signature, answering: Signature) -> None:
    assert misfit(asked, answering) is None


@pytest.mark.parametrize(
    ("asked", "answering", "words"),
    [
        (taking(FRAME[["size"]]), taking(FRAME), "it needs the field 'user'"),
        (taking(FRAME), taking(FRAME[["size", "user"]]), "it does not know the field 'colour'"),
        (taking(FRAME), taking(FRAME.rename(columns={"user": "User"})), "it needs the field 'User'"),
        (taking(FRAME), taking(FRAME[["user", "size", "colour"]]), "in another order, from 'size' on"),
        (taking([[1.0]]), taking([[1.0, 2.0]]), "it needs the field 'x1'"),
        (taking(FRAME.assign(user=[1.5, 2.5])), taking(FRAME), "'user' is of the kind 'integer', not 'number'"),
        (taking(FRAME), taking(FRAME.assign(user=[True, False])), "'user' is of the kind 'boolean', not 'integer'"),
        (taking(FRAME), taking(FRAME.assign(size=["a", "b"])), "'size' is of the kind 'text', not 'number'"),
        (taking(FRAME.assign(size=[np.nan, 1.0])), taking(FRAME), "'size' takes no missing values"),
        (taking(categories("red", "blue")), taking(categories("red")), "'colour' does not take 'blue'"),
        (taking(FRAME.assign(colour=["red", "blue"])), taking(FRAME), "'colour' does not take 'anything else'"),
        (taking(FRAME, output="class"), taking(FRAME, output="number"), "of the kind 'number', not 'class'"),
        (
            taking(FRAME, output="class", labels=("a", "b")), taking(FRAME, output="class", labels=(0, 1)),
            "labels are of another type: 0 of its own, 'a' of the others",
        ),
        (taking(FRAME, probabilities=True), taking(FRAME, probabilities=False), "it gives no probabilities"),
    ],
)  # fmt: skip
def test_versions_that_do_not_fit(asked: Signature, answering: Signature, words: str) -> None:
    why = misfit(asked, answering)
    assert why is not None
    assert words in why
    assert "\n" not in why


def test_rows_of_another_shape() -> None:
    asked, answering = taking(np.zeros((2, 8, 8))), taking(np.zeros((2, 4, 4)))
    why = misfit(asked, answering)
    assert why is not None
    assert "shape" in why


def test_whatever_fits_is_taken() -> None:
    """The rows that the one takes, as JSON has them, are taken by the other."""
    rows = [{"size": 1, "user": 3, "colour": "blue"}, {"size": 2.5, "user": True, "colour": "red"}]
    asked, answering = taking(FRAME), taking(FRAME.assign(user=[1.5, 2.5]))
    assert misfit(asked, answering) is None
    for signature in (asked, answering):
        assert len(signature.coerce(rows[:1])) == 1
