"""Versions and checked rows on their way to another process."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from mlnb import ModelRegistry
from mlnb.errors import DeadlineError, MlnbError, OverloadedError, PredictionError, ReplicaError
from mlnb.registry.rows.inference import infer_signature
from mlnb.scaling.frames import FrameReader, pack
from mlnb.serving.service import Query


class Model:
    def predict(self, rows: Any) -> Any:
        return np.zeros(len(rows))


def moved(value: Any) -> Any:
    (there,) = FrameReader().feed(b"".join(pack(value)))
    return there


def test_a_version_goes_with_its_signature(registry: ModelRegistry, home: Any) -> None:
    frame = pd.DataFrame({"age": [1.0, 2.0], "place": ["here", "there"]})
    version = registry.register(
        Model(), "travelling", example=frame, metrics={"accuracy": 0.5}, description="all the way"
    )
    for one in (version, registry.version("travelling:1")):  # the latter has not read its signature yet
        data = pickle.dumps(one)
        there = pickle.loads(data)
        assert vars(there).keys() >= {"read_signature", "name"}
        assert there == version
        assert (str(there), there.created, there.files, there.digest) == (
            str(version), version.created, version.files, version.digest,
        )  # fmt: skip
        assert there.signature == version.signature
        assert there.signature.plan == version.signature.plan
        assert str(home).encode() not in data
        assert pickle.loads(pickle.dumps(there)) == version


MISSING = pd.DataFrame({"n": [1.5, None], "t": ["a", None], "w": pd.array([1, None], dtype="Int64")})
EXAMPLES: list[Any] = [
    np.array([[1.0, 2.0], [3.0, 4.0]]),
    np.asfortranarray([[1.0, 2.0], [3.0, 4.0]]),
    np.array([[1, 2]], dtype=np.int32),
    np.array([[True, False]]),
    np.array([["2026-01-01", "2026-01-02"]], dtype="M8[D]"),
    np.array([[1.0, "a"]], dtype=object),
    pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]}),
    pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}),
    pd.DataFrame({"when": pd.to_datetime(["2026-01-01", "2026-02-02"]), "flag": [True, False]}),
    pd.DataFrame({"kind": pd.Categorical(["x", "y"]), "text": ["a", "b"]}),
    MISSING,
    pl.DataFrame({"a": [1.0, None], "b": ["x", "y"]}),
    ["a text", "another"],
    np.zeros((2, 3, 4)),
    None,
]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_checked_rows_are_built_there_as_they_would_be_here(example: Any) -> None:
    signature = infer_signature(None, example)
    rows = [[1.0, 2.0]] if example is None else example
    here = signature.coerce(rows)
    there = moved(signature).build(moved(signature.check(rows)))
    assert type(here) is type(there)
    if isinstance(here, pd.DataFrame):
        pd.testing.assert_frame_equal(here, there)
    elif isinstance(here, pl.DataFrame):
        assert here.equals(there)
        assert here.schema == there.schema
    else:
        np.testing.assert_array_equal(here, there)
        assert (here.dtype, here.flags.f_contiguous) == (there.dtype, there.flags.f_contiguous)


@pytest.mark.parametrize(
    "error",
    [
        MlnbError("said", row=3),
        PredictionError("ValueError:\n why"),
        DeadlineError("late"),
        OverloadedError("too much", retry_after=7),
        ReplicaError("gone", given=1),
    ],
)
def test_errors_arrive_as_they_were(error: MlnbError) -> None:
    there = moved(error)
    assert type(there) is type(error)
    assert (there.message, there.details, str(there), there.status) == (
        error.message, error.details, str(error), error.status,
    )  # fmt: skip
    assert getattr(there, "reason", None) == getattr(error, "reason", None)
    assert getattr(there, "retry_after", None) == getattr(error, "retry_after", None)


def test_the_reason_of_a_failure_is_one_line_and_no_part_of_what_anybody_reads() -> None:
    error = PredictionError("ValueError:\n  the\tsecret")
    assert error.reason == "ValueError: the secret"
    assert "secret" not in str(error)
    assert error.details == {}


def test_an_overload_says_when_to_come_again() -> None:
    assert OverloadedError("full", retry_after=3).details == {"retry_after": 3}
    assert OverloadedError("full").retry_after == 1


@pytest.mark.parametrize("example", EXAMPLES[:12], ids=range(12))
def test_rows_that_may_join_others_are_the_same_with_them(example: Any) -> None:
    signature = infer_signature(None, example)
    rows = example.tolist() if isinstance(example, np.ndarray) else [list(row) for row in _rows(example)]
    assert Query(rows).joins(signature)
    joined = signature.coerce(rows * 3)
    for number, row in enumerate(rows):
        alone = signature.coerce([row])
        there = joined[number : number + 1]
        if isinstance(alone, pd.DataFrame):
            pd.testing.assert_frame_equal(alone, there.reset_index(drop=True))
        elif isinstance(alone, pl.DataFrame):
            assert alone.equals(there)
            assert alone.schema == there.schema
        else:
            np.testing.assert_array_equal(alone, there)
            assert alone.dtype == there.dtype


def _rows(frame: Any) -> list[Any]:
    if isinstance(frame, pl.DataFrame):
        return frame.rows()
    plain = frame.astype(object).where(frame.notna(), None)
    return [[value.isoformat() if hasattr(value, "isoformat") else value for value in row] for row in plain.to_numpy()]


def test_rows_whose_type_would_follow_from_others_join_none() -> None:
    """A model fitted on a frame, without an example: whole numbers beside text would be objects."""
    model = LinearRegression().fit(pd.DataFrame({"a": [1.0, 2.0]}), [0.0, 1.0])
    signature = infer_signature(model, None)
    assert signature.coerce([[1]]).dtypes.tolist() != signature.coerce([[1], ["x"]]).dtypes.tolist()
    assert not Query([[1]]).joins(signature)
