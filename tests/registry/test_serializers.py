from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mlnb.errors import NotServableError, RegistryFormatError
from mlnb.registry.serializers import serialize, serializer_for


def test_a_library_model_is_stored_by_joblib() -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    kind, content = serialize(model)
    assert kind == "joblib"
    assert serializer_for(kind).loads(content).predict([[2.0]]) == pytest.approx([4.0])


def test_a_lambda_is_carried_by_value() -> None:
    rows = np.array([[0.0], [1.0]])
    model = make_pipeline(FunctionTransformer(lambda values: values * 2), LinearRegression()).fit(rows, [0.0, 2.0])
    kind, content = serialize(model)
    assert kind == "cloudpickle"
    assert (serializer_for(kind).loads(content).predict(rows) == model.predict(rows)).all()


def test_a_class_of_the_notebook_loads_in_a_process_that_never_saw_it(tmp_path: Path) -> None:
    notebook = """
import sys
from mlnb.registry.serializers import serialize
class Doubler:
    factor = 2
    def predict(self, rows):
        return [self.factor * row[0] for row in rows]
kind, content = serialize(Doubler())
open(sys.argv[1], "wb").write(content)
print(kind)
"""
    elsewhere = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).predict([[21]]))"
    path = str(tmp_path / "model")
    assert run(notebook, path) == "cloudpickle"
    assert run(elsewhere, path) == "[42]"


def run(program: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


class WithLock:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def predict(self, rows: Any) -> Any:
        return rows


def test_what_cannot_be_pickled_is_refused_with_the_reason() -> None:
    with pytest.raises(NotServableError, match=r"WithLock cannot be stored.*lock"):
        serialize(WithLock())


def test_a_format_of_a_newer_mlnb_is_named() -> None:
    with pytest.raises(RegistryFormatError, match="'safetensors'"):
        serializer_for("safetensors")


class Refuses:
    def __getstate__(self) -> Any:
        raise RuntimeError("not me")


def test_whatever_a_model_raises_while_it_is_pickled_is_said() -> None:
    with pytest.raises(NotServableError, match=r"Refuses cannot be stored.*not me"):
        serialize(Refuses())
