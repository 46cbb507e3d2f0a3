"""The golden rows, asked over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fitted import Fitted
from waiting import free_port

import mlnb
from mlnb.errors import InvalidInputError
from mlnb.packaging.parity import Parity, check
from mlnb.registry.proofs.golden import GoldenRows


class Said:
    """Says what it was made to say, whatever it is asked."""

    def __init__(self, said: list[Any], dtype: str) -> None:
        self.said = said
        self.dtype = dtype

    def predict(self, rows: Any) -> Any:
        return np.array(self.said * len(rows), dtype=self.dtype)[: len(rows)]


def golden_of(deployment: mlnb.Deployment) -> GoldenRows:
    golden = mlnb.ModelRegistry().golden(str(deployment.version))
    assert golden is not None
    return golden


def asked(deployment: mlnb.Deployment, golden: GoldenRows | None) -> Parity:
    url, _, name = deployment.url.partition("/models/")
    return check(url, name=name, golden=golden, where="here")


def test_the_same_model_answers_alike(tumour: Fitted, diabetes: Fitted) -> None:
    for fitted in (tumour, diabetes):
        with mlnb.deploy(fitted.model, name="alike", example=fitted.rows) as deployment:
            golden = golden_of(deployment)
            parity = asked(deployment, golden)
        assert (parity.good, parity.rows, parity.wrong, parity.reason) == (True, len(golden.rows), (), "")
        assert 0 < parity.seconds < 30
        assert str(parity) == "here: 32 of 32 golden rows answered as in the notebook"


@pytest.mark.parametrize(
    ("said", "dtype"),
    [
        ([float("inf"), float("-inf"), float("nan"), 1e300], "float64"),
        ([0.1, float("inf")], "float32"),
        (["2024-02-29T12:00", "NaT"], "datetime64[ns]"),
        (["2024-02-29T12:00", "1970-01-01T00:00:00.5"], "datetime64[us]"),
        ([2**63, 1], "uint64"),
        (["yes", "no"], "str"),
        ([True, False], "bool"),
    ],
)
def test_what_json_has_no_word_for_is_alike_all_the_same(said: list[Any], dtype: str) -> None:
    with mlnb.deploy(Said(said, dtype), name="said", example=[[1.0], [2.0], [3.0], [4.0]]) as deployment:
        golden = golden_of(deployment)
        assert str(asked(deployment, golden)) == "here: 4 of 4 golden rows answered as in the notebook"
        assert asked(deployment, replace(golden, answers=[*golden.answers[1:], golden.answers[0]])).wrong


def test_each_row_that_differs_is_named(tumour: Fitted) -> None:
    with mlnb.deploy(tumour.model, name="tumour", example=tumour.rows) as deployment:
        golden = golden_of(deployment)
        turned = ["benign" if golden.answers[20] == "malignant" else "malignant"]
        parity = asked(deployment, replace(golden, answers=[*golden.answers[:20], *turned, *golden.answers[21:]]))
        assert not parity.good
        assert parity.wrong == (f"row 20: {turned[0]!r} recorded, {golden.answers[20]!r} now",)
        assert str(parity) == "here: 31 of 32 golden rows answered as in the notebook"
        assert golden.probabilities is not None
        unsure = asked(deployment, replace(golden, probabilities=[[0.5, 0.5]] * 32))
        assert len(unsure.wrong) > 16
        assert "probabilities [0.5, 0.5] recorded" in unsure.wrong[0]


def test_no_probabilities_any_more_is_a_difference(diabetes: Fitted) -> None:
    with mlnb.deploy(diabetes.model, name="diabetes", example=diabetes.rows) as deployment:
        parity = asked(deployment, replace(golden_of(deployment), probabilities=[[1.0]] * 32))
    assert not parity.good
    assert len(parity.wrong) == 32


def test_what_cannot_be_compared_says_why(tumour: Fitted) -> None:
    with mlnb.deploy(tumour.model, name="tumour", example=tumour.rows) as deployment:
        golden = golden_of(deployment)
        nothing, unrepeatable = asked(deployment, None), asked(deployment, replace(golden, repeatable=False))
        url = deployment.url.partition("/models/")[0]
        elsewhere = check(url, name="iris", golden=golden, where="here")
        misfit = asked(deployment, replace(golden, rows=[[1.0]] * 32))
    for parity in (nothing, unrepeatable):
        assert (parity.good, parity.rows, parity.wrong) == (False, 0, ())
        assert str(parity).startswith("here: no answers compared (")
    assert "without an example" in nothing.reason
    assert "the same way twice" in unrepeatable.reason
    assert (elsewhere.good, len(elsewhere.wrong)) == (False, 32)
    assert "it answered 404" in str(elsewhere)
    assert "it answered 422" in str(misfit)


def test_nobody_answers(tumour: Fitted) -> None:
    golden = GoldenRows(rows=[[1.0]], answers=[1], probabilities=None, dtype="int64")
    url = f"http://127.0.0.1:{free_port()}"
    parity = check(url, name="tumour", golden=golden, where="there", timeout=5)
    assert (parity.good, parity.wrong) == (False, ("row 0: no answer",))
    assert parity.reason.startswith(f"nobody answers at {url}: ")
    with pytest.raises(InvalidInputError, match="give http://HOST:PORT"):
        check("localhost:80", name="tumour", golden=golden, where="there")
