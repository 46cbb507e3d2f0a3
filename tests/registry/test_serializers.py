from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mlnb.errors import NotServableError, RegistryFormatError
from mlnb.registry import serializers
from mlnb.registry.serializers import (
    Buffer,
    CloudpickleSerializer,
    candidates,
    serializer_named,
    why_not_picklable,
)


def stored(model: Any) -> dict[str, memoryview]:
    return {path: memoryview(content) for path, content in CloudpickleSerializer().dump(model).items()}


def loaded(model: Any) -> Any:
    return CloudpickleSerializer().load(stored(model))


def test_a_library_model_comes_back() -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    assert [serializer.name for serializer in candidates(model)] == ["cloudpickle"]
    assert loaded(model).predict([[2.0]]) == pytest.approx([4.0])


def test_a_lambda_is_carried_by_value() -> None:
    rows = np.array([[0.0], [1.0]])
    model = make_pipeline(FunctionTransformer(lambda values: values * 2), LinearRegression()).fit(rows, [0.0, 2.0])
    assert (loaded(model).predict(rows) == model.predict(rows)).all()


def test_large_arrays_are_files_of_their_own_and_are_not_copied() -> None:
    arrays = {"large": np.arange(20_000.0), "small": np.arange(3.0)}
    files = stored(arrays)
    assert list(files) == ["model.pickle", "buffers/00000"]
    assert files["model.pickle"].nbytes < 1000
    assert np.shares_memory(np.frombuffer(files["buffers/00000"], dtype=float), arrays["large"])
    again = CloudpickleSerializer().load(files)
    assert {name: array.tolist() for name, array in again.items()} == {n: a.tolist() for n, a in arrays.items()}


def test_code_that_is_stored_does_not_tell_where_it_was_written(tmp_path: Path) -> None:
    script = tmp_path / "private" / "fit.py"
    source = "class Doubled:\n    def predict(self, rows):\n        return [2 * one for one in rows]"
    scope: dict[str, Any] = {"__name__": "__main__", "__file__": str(script)}
    exec(compile(source, script, "exec"), scope)  # noqa: S102 - as a notebook or a script does
    files = CloudpickleSerializer().dump(scope["Doubled"]())
    assert b"private" not in b"".join(files.values())
    method = CloudpickleSerializer().load({name: memoryview(file) for name, file in files.items()}).predict
    assert (method([1]), method.__code__.co_filename) == ([2], "fit.py")


def test_a_class_of_the_notebook_loads_in_a_process_that_never_saw_it(tmp_path: Path) -> None:
    notebook = """
import sys
from mlnb.registry.serializers import CloudpickleSerializer
class Doubler:
    factor = 2
    def predict(self, rows):
        return [self.factor * row[0] for row in rows]
open(sys.argv[1], "wb").write(CloudpickleSerializer().dump(Doubler())["model.pickle"])
"""
    elsewhere = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).predict([[21]]))"
    path = str(tmp_path / "model")
    run(notebook, path)
    assert run(elsewhere, path) == "[42]"


def run(program: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


class Holder:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    def predict(self, rows: Any) -> Any:
        return rows


class Refuses:
    def __getstate__(self) -> Any:
        raise RuntimeError("not me")


LOCK = threading.Lock()


def with_a_cell() -> Any:
    lock = threading.Lock()

    def predict(rows: Any) -> Any:
        with lock:
            return rows

    return predict


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Holder(lock=threading.Lock()), r"test_serializers\.Holder\.lock, a _thread\.lock, cannot be pickled"),
        (Holder(inner=[1, {"deep": Holder(lock=threading.Lock())}]), r"Holder\.inner\[1\]\['deep'\]\.lock"),
        (Holder(rows=(row for row in [1])), r"Holder\.rows, a generator, cannot be pickled"),
        (with_a_cell(), r"its variable 'lock'\), a _thread\.lock"),
        (Refuses(), r"Refuses cannot be stored: it cannot be pickled \(not me\)"),
    ],
)
def test_what_cannot_be_pickled_is_named(model: Any, says: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever pickle raises
        CloudpickleSerializer().dump(model)
    error = why_not_picklable(model, caught.value)
    assert isinstance(error, NotServableError)
    assert __import__("re").search(says, str(error)), str(error)


def test_a_format_of_a_newer_mlnb_is_named() -> None:
    with pytest.raises(RegistryFormatError, match="no model format 'onnxx'; did you mean 'onnx'"):
        serializer_named("onnxx")


class Texts:
    """Somebody else's model type."""

    def __init__(self, text: str) -> None:
        self.text = text


class TextSerializer:
    name: ClassVar[str] = "text"
    types: ClassVar[tuple[str, ...]] = (f"{Texts.__module__}.{Texts.__qualname__}",)
    runs_code: ClassVar[bool] = False

    def dump(self, model: Texts, *, example: Any) -> dict[str, Buffer]:  # noqa: ARG002 - it traces nothing
        return {"text": model.text.encode()}

    def load(self, files: dict[str, memoryview]) -> Texts:
        return Texts(bytes(files["text"]).decode())


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A package, installed as any other, that adds a format by its entry point."""
    (tmp_path / "shopformats.py").write_text("from test_formats_holder import TextSerializer\n")
    info = tmp_path / "shopformats-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shopformats\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlnb.serializers]\ntext = shopformats:TextSerializer\n")
    holder = type(sys)("test_formats_holder")
    holder.TextSerializer = TextSerializer  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "test_formats_holder", holder)
    monkeypatch.syspath_prepend(str(tmp_path))
    serializers._serializers.cache_clear()
    yield
    monkeypatch.undo()
    serializers._serializers.cache_clear()


def test_a_third_party_adds_a_format(third_party: None) -> None:
    first, second = candidates(Texts("hello"))
    assert (first.name, second.name) == ("text", "cloudpickle")
    files = {path: memoryview(content) for path, content in first.dump(Texts("hello"), example=None).items()}
    assert serializer_named("text").load(files).text == "hello"
