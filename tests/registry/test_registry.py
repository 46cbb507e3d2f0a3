from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from fitted import Fitted
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

import mlnb
from mlnb import ModelRegistry
from mlnb.errors import (
    IntegrityError,
    InvalidInputError,
    InvalidNameError,
    MissingLibraryError,
    ModelNotFoundError,
    NoPreviousVersionError,
    NotServableError,
    RegistryFormatError,
    RegistryUnavailableError,
)

CONSTANT = DummyClassifier().fit([[0.0], [1.0]], [1, 1])


def files(registry: ModelRegistry) -> list[str]:
    return sorted(str(path.relative_to(Path(registry.url))) for path in Path(registry.url).rglob("*") if path.is_file())


def test_the_layout_on_disk_is_that_of_the_design(registry: ModelRegistry) -> None:
    version = registry.register(CONSTANT, "iris", example=[[0.5]])
    assert files(registry) == [
        *sorted(f"blobs/sha256/{digest[:2]}/{digest}" for digest in version.contents),
        "models/iris/history/00000001.json",
        "models/iris/versions/00000001.json",
        "registry.json",
    ]


def test_a_version_reads_back_from_another_registry_object(registry: ModelRegistry, tumour: Fitted) -> None:
    version = registry.register(
        tumour.model, "tumour", example=tumour.rows, metrics={"accuracy": 0.97}, description="first"
    )
    assert (version.number, version.metrics, version.description) == (1, {"accuracy": 0.97}, "first")
    assert version.model_type == "sklearn.ensemble._forest.RandomForestClassifier"
    again = ModelRegistry(Path(registry.url))
    assert again.version("tumour:1") == version
    assert (again.load("tumour").predict(tumour.rows) == tumour.predictions).all()


def test_an_unchanged_model_is_stored_once(registry: ModelRegistry) -> None:
    for _ in range(3):
        registry.register(CONSTANT, "iris")
    assert [version.number for version in registry.versions("iris")] == [1, 2, 3]
    assert len([name for name in files(registry) if name.startswith("blobs")]) == 2  # model and signature


def test_writers_that_race_get_numbers_of_their_own(home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: ModelRegistry(home).register(CONSTANT, "iris").number, range(40)))
    assert sorted(numbers) == list(range(1, 41))
    history = ModelRegistry(home).history("iris")
    assert [event.number for event in history] == list(range(1, 41))
    assert sorted(event.version for event in history) == list(range(1, 41))


def test_references(registry: ModelRegistry) -> None:
    for _ in range(3):
        registry.register(CONSTANT, "iris")
    registry.set_alias("iris", "champion", 2)
    assert [registry.version(text).number for text in ("iris", "iris:1", "iris@champion")] == [3, 1, 2]
    registry.set_alias("iris", "champion", 3)
    assert registry.version("iris@champion").number == 3
    assert registry.names() == ["iris"]


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("iriss", "did you mean 'iris'"),
        ("iris:9", "'iris' has no version 9; there are 1-2"),
        ("iris@champoin", "no alias 'champoin'; did you mean 'champion'"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(registry: ModelRegistry, reference: str, says: str) -> None:
    registry.register(CONSTANT, "iris")
    registry.register(CONSTANT, "iris")
    registry.set_alias("iris", "champion", 1)
    with pytest.raises(ModelNotFoundError, match=says):
        registry.load(reference)


def test_roll_back_through_the_history(registry: ModelRegistry) -> None:
    versions = [registry.register(CONSTANT, "iris") for _ in range(3)]
    with pytest.raises(NoPreviousVersionError, match="name one of 1-3"):
        registry.rollback("iris")
    for version in versions:
        registry.record(version, "deployed")
    assert registry.rollback("iris").number == 2
    assert registry.rollback("iris").number == 1
    with pytest.raises(NoPreviousVersionError):
        registry.rollback("iris")
    assert registry.rollback("iris", to=3).number == 3
    assert [event.action for event in registry.history("iris")[3:]] == ["deployed"] * 3 + ["rolled back"] * 3


def test_a_changed_file_is_refused_before_it_is_unpickled(registry: ModelRegistry, tmp_path: Path) -> None:
    version = registry.register(CONSTANT, "iris")
    trap = tmp_path / "it-ran"
    (stored,) = version.files
    blob = Path(registry.url) / "blobs" / "sha256" / stored.digest[:2] / stored.digest
    blob.write_bytes(b"cos\nmkdir\n(S'" + str(trap).encode() + b"'\ntR.")  # a pickle that makes a folder
    with pytest.raises(IntegrityError, match="was not loaded"):
        registry.load("iris")
    assert not trap.exists()


def test_a_damaged_record_is_named(registry: ModelRegistry) -> None:
    registry.register(CONSTANT, "iris")
    (Path(registry.url) / "models/iris/versions/00000001.json").write_bytes(b"{")
    with pytest.raises(IntegrityError, match=r"00000001\.json is damaged"):
        ModelRegistry(Path(registry.url)).versions("iris")


def test_a_registry_of_a_newer_format_is_refused(registry: ModelRegistry) -> None:
    registry.register(CONSTANT, "iris")
    (Path(registry.url) / "registry.json").write_text('{"format": 99}')
    with pytest.raises(RegistryFormatError, match=r"format 99; this mlnb reads format 2\. Update mlnb"):
        ModelRegistry(Path(registry.url))


class Five:
    """Answers whatever it is asked with one number."""

    def predict(self, rows: Any) -> Any:  # noqa: ARG002
        return 5


class Rebuilds:
    """Pickles, and cannot be unpickled."""

    def __reduce__(self) -> Any:
        return (int, ("no number",))

    def predict(self, rows: Any) -> Any:
        return rows


@pytest.mark.parametrize(
    ("model", "given", "error", "says"),
    [
        (object(), {}, NotServableError, "object cannot be served: a model needs a method `predict`"),
        (DummyClassifier, {}, NotServableError, "an instance, fitted, is needed"),
        (LinearRegression(), {"example": [[1.0]]}, NotServableError, "is not fitted yet"),
        (LinearRegression(), {}, NotServableError, "is not fitted yet"),
        (Five(), {"example": [[1.0]]}, NotServableError, r"gave the shape \(\) for 1 rows"),
        (LogisticRegression().fit([[0, 0], [1, 1]], [0, 1]), {"example": [[1.0]]}, NotServableError, "cannot predict"),
        (CONSTANT, {"name": "a/b"}, InvalidNameError, "letters, digits"),
        (CONSTANT, {"metrics": {"accuracy": "high"}}, InvalidInputError, "finite numbers by name"),
        (CONSTANT, {"metrics": 0.97}, InvalidInputError, "finite numbers by name"),
        (Rebuilds(), {}, NotServableError, "can be stored but not loaded again: ValueError"),
    ],
)
def test_what_cannot_be_registered_leaves_nothing(
    registry: ModelRegistry, model: Any, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        registry.register(model, **({"name": "iris"} | given))
    assert files(registry) == []


def test_a_metric_that_is_not_finite_is_refused(registry: ModelRegistry) -> None:
    with pytest.raises(InvalidInputError, match="finite"):
        registry.register(CONSTANT, "iris", metrics={"auc": float("nan")})


def test_the_default_folder_is_mlnb_home(home: Path) -> None:
    assert ModelRegistry().url == str(home)
    assert repr(ModelRegistry()) == f"ModelRegistry({str(home)!r})"


def test_without_mlnb_home_it_is_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLNB_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Path(ModelRegistry().url).name == "mlnb"


def test_reading_makes_no_folder(registry: ModelRegistry) -> None:
    assert registry.names() == []
    assert registry.history("iris") == []
    with pytest.raises(ModelNotFoundError, match="there are none yet"):
        registry.versions("iris")
    assert not Path(registry.url).exists()


def test_records_may_be_read_by_whom_the_umask_lets(registry: ModelRegistry) -> None:
    registry.register(CONSTANT, "iris")
    assert stat.S_IMODE((Path(registry.url) / "registry.json").stat().st_mode) & 0o600 == 0o600


def test_the_public_names_are_there() -> None:
    assert all(getattr(mlnb, name) is not None for name in mlnb.__all__)
    assert set(mlnb.__all__) <= set(dir(mlnb))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mlnb.nothing


def test_a_folder_that_a_crash_left_without_a_version_is_no_model(registry: ModelRegistry) -> None:
    registry.register(CONSTANT, "iris")
    (Path(registry.url) / "models" / "half" / "versions").mkdir(parents=True)
    (Path(registry.url) / "models" / "not a name" / "versions").mkdir(parents=True)
    assert registry.names() == ["iris"]
    assert [version.name for version in mlnb.versions()] == ["iris"]


def test_a_relative_folder_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = ModelRegistry("models")
    registry.register(CONSTANT, "iris")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert registry.version("iris").number == 1


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RegistryUnavailableError, match=r"file.*Not a directory"):
        ModelRegistry(tmp_path / "file").names()


def test_a_disk_that_is_full_is_said(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RegistryUnavailableError, match="No space left on device"):
        registry.register(CONSTANT, "iris")


@pytest.mark.parametrize("content", ["{}", "[]", '{"format": "1"}'])
def test_a_registry_that_names_no_format_is_refused(registry: ModelRegistry, content: str) -> None:
    Path(registry.url).mkdir()
    (Path(registry.url) / "registry.json").write_text(content)
    with pytest.raises(RegistryFormatError, match="names no format"):
        ModelRegistry(Path(registry.url))


def test_a_model_whose_library_is_gone_is_said(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shortlived.py").write_text("class Model:\n    def predict(self, rows):\n        return rows\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.register(__import__("shortlived").Model(), "gone")
    monkeypatch.undo()
    sys.modules.pop("shortlived")
    with pytest.raises(MissingLibraryError, match="gone:1 needs shortlived"):
        registry.load("gone")


class Changed:
    def predict(self, rows: Any) -> Any:
        return rows


def test_a_model_that_can_no_longer_be_rebuilt_is_said(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(Changed(), "changed")
    monkeypatch.delattr(sys.modules[Changed.__module__], "Changed")
    with pytest.raises(IntegrityError, match="changed:1 cannot be rebuilt here: AttributeError"):
        registry.load("changed")


def test_a_registry_that_another_object_made_meanwhile_is_ones_own(home: Path) -> None:
    early = ModelRegistry(home)
    assert not early.trusted
    ModelRegistry(home).register(CONSTANT, "iris")
    assert early.trusted
    assert early.load("iris").predict([[0.0]]) == [1]


class Weights:
    """A model that is mostly one array."""

    def __init__(self) -> None:
        self.weights = np.arange(400_000.0)

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows)[:, 0] * self.weights[1]


def file_behind(array: np.ndarray[Any, Any]) -> str:
    """The file that the system has mapped where the array lies, "" if none."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, path = line.split(maxsplit=5) if len(line.split()) > 5 else (*line.split(), "")
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last:
            return path
    raise AssertionError("an array lies somewhere")


def test_a_large_array_is_mapped_from_its_file_and_can_still_be_written_to(registry: ModelRegistry) -> None:
    version = registry.register(Weights(), "m", example=[[1.0]])
    array = next(file for file in version.files if file.path.startswith("buffers/"))
    mapped, copied = registry.load("m", mapped=True), registry.load("m")
    assert file_behind(mapped.weights).endswith(array.digest)
    assert not file_behind(copied.weights).endswith(array.digest)
    mapped.weights[0] = copied.weights[0] = 7.0
    assert registry.load("m", mapped=True).weights[0] == 0.0
    assert mapped.predict([[2.0]]).tolist() == copied.predict([[2.0]]).tolist() == [2.0]


def test_the_fifth_array_in_a_hundred_is_stored_alone(registry: ModelRegistry) -> None:
    class Many:
        def __init__(self) -> None:
            self.arrays = [np.full(20_000, float(at)) for at in range(100)]

        def predict(self, rows: Any) -> Any:
            return np.zeros(len(rows))

    model = Many()
    registry.register(model, "m", example=[[1.0]])
    before = sum(path.stat().st_size for path in Path(registry.url, "blobs").rglob("*") if path.is_file())
    model.arrays[5] = model.arrays[5] + 0.5
    registry.register(model, "m", example=[[1.0]])
    after = sum(path.stat().st_size for path in Path(registry.url, "blobs").rglob("*") if path.is_file())
    assert after - before < 0.02 * before


@pytest.mark.parametrize("as_of", [5, "yesterday"])
def test_a_moment_that_is_none_is_refused(registry: ModelRegistry, as_of: Any) -> None:
    registry.register(CONSTANT, "iris")
    with pytest.raises(InvalidInputError, match="ISO text"):
        registry.load("iris", as_of=as_of)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"description": "\udcff"}, "text in Unicode"),
        ({"by_value": ["helpers"]}, r"takes modules, as in by_value=\[helpers\]"),
    ],
)
def test_what_is_no_description_or_module_is_refused(registry: ModelRegistry, given: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        registry.register(CONSTANT, "iris", **given)
    assert files(registry) == []


@pytest.mark.parametrize("name", ["model.onnx", "model.joblib", "model.pkl", "model.txt", "missing.onnx"])
def test_a_file_that_is_no_model_is_refused(registry: ModelRegistry, tmp_path: Path, name: str) -> None:
    if name != "missing.onnx":
        (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(NotServableError, match=name):
        registry.register(tmp_path / name, "iris")
    assert files(registry) == []


def test_the_model_in_a_joblib_file_is_registered(registry: ModelRegistry, tmp_path: Path) -> None:
    joblib.dump(CONSTANT, tmp_path / "model.joblib")
    registry.register(tmp_path / "model.joblib", "iris")
    assert registry.load("iris").predict([[0.0]]) == [1]


def test_a_registry_that_was_removed_and_made_again_is_read_anew(registry: ModelRegistry) -> None:
    registry.register(CONSTANT, "iris", description="old")
    assert registry.version("iris").description == "old"
    shutil.rmtree(registry.url)
    registry.register(CONSTANT, "iris", description="new")
    assert [(version.number, version.description) for version in registry.versions("iris")] == [(1, "new")]
    assert ModelRegistry(registry.url).trusted
    assert ModelRegistry(registry.url).load("iris").predict([[0.0]]) == [1]


def test_a_damaged_record_of_another_version_does_not_matter(registry: ModelRegistry) -> None:
    for _ in range(2):
        registry.register(CONSTANT, "iris")
    (Path(registry.url) / "models/iris/versions/00000001.json").write_bytes(b"{")
    (Path(registry.url) / "models/iris/history/00000001.json").write_bytes(b"{")
    assert ModelRegistry(registry.url).load("iris:2").predict([[0.0]]) == [1]


def test_a_forked_child_registers_too(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import os, sys
from sklearn.dummy import DummyClassifier
import mlnb
model = DummyClassifier().fit([[0.0], [1.0]], [1, 1])
registry = mlnb.ModelRegistry()
registry.register(model, "iris")
child = os.fork()
registry.register(model, "iris")  # in both: the prover's thread and lock are the parent's
if child == 0:
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(registry.versions("iris")))
"""
    monkeypatch.delenv("MLNB_PROVE")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0", "3"]
