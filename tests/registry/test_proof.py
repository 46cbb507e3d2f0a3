"""Proofs: a child process with nothing of the notebook in it loads a version and answers its golden rows."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version as installed
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from fitted import Fitted
from threads import mlnb_threads
from waiting import wait_until

from mlnb.errors import EnvironmentWarning, GoldenRowsError, ModelNotFoundError
from mlnb.registry.predictors import predictor
from mlnb.registry.proofs import proof as proofs
from mlnb.registry.proofs.golden import GoldenRows, ask, disagreements
from mlnb.registry.proofs.proof import Proof
from mlnb.registry.proofs.prover import Prover
from mlnb.registry.registry import ModelRegistry

ROWS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the notebook's own modules."""
    folder = tmp_path / "beside"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def module(folder: Path, name: str, content: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Write a module and import it."""
    (folder / f"{name}.py").write_text(content)
    importlib.invalidate_caches()
    found = importlib.import_module(name)
    monkeypatch.setitem(sys.modules, name, found)  # taken away with the test
    return found


DOUBLING = """
import numpy as np


class Doubling:
    def predict(self, rows):
        return 2 * np.asarray(rows)[:, 0]
"""


# What a proof says ---------------------------------------------------------------------------------------------------


def test_a_model_of_a_library_is_portable_with_what_it_needs(registry: ModelRegistry, tumour: Fitted) -> None:
    version = registry.register(tumour.model, "tumour", example=tumour.rows)
    assert registry.proof("tumour") is None
    proof = registry.prove(version)
    assert (proof.portable, proof.reason, proof.rows) == (True, "", 32)
    pinned = dict(one.split("==") for one in proof.requirements)
    assert pinned["scikit-learn"] == installed("scikit-learn")
    assert pinned["numpy"] == installed("numpy")
    assert {"pytest", "jupyterlab", "ipython", "mlnb", "torch", "xgboost-cpu", "hypothesis"} & pinned.keys() == set()
    assert proof.python.split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert proof.seconds > 0
    assert str(proof) == "portable, 32 golden rows answered alike"


def test_a_proof_joins_the_history_and_the_last_one_counts(registry: ModelRegistry) -> None:
    version = registry.register(lambda rows: rows[:, 0], "first", example=ROWS)
    first, second = registry.prove(version), registry.prove("first:1")
    assert first.portable
    events = ModelRegistry(registry.url).history("first")
    assert [event.action for event in events] == ["registered", "proved", "proved"]
    assert ModelRegistry(registry.url).proof("first") == second
    with pytest.raises(ModelNotFoundError):
        registry.prove("nothing")
    with pytest.raises(ModelNotFoundError):
        registry.prove("first:9")


def test_without_an_example_no_rows_are_compared(registry: ModelRegistry) -> None:
    proof = registry.prove(registry.register(lambda rows: rows, "any"))
    assert (proof.portable, proof.rows, str(proof)) == (True, 0, "portable, no answers compared")


def test_a_class_in_a_module_beside_the_notebook_is_not_portable(
    registry: ModelRegistry, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = module(beside, "own_models", DOUBLING, monkeypatch)
    refused = registry.prove(registry.register(own.Doubling(), "doubling", example=ROWS))
    assert not refused.portable
    assert "'own_models' is not installed" in refused.reason
    assert "by_value=[own_models]" in refused.reason
    accepted = registry.prove(registry.register(own.Doubling(), "doubling", example=ROWS, by_value=[own]))
    assert (accepted.portable, accepted.reason, accepted.rows) == (True, "", 3)


def test_a_module_that_is_found_by_pythonpath_alone_is_not_portable(
    registry: ModelRegistry, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = module(beside, "own_models_on_the_path", DOUBLING, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(beside))
    proof = registry.prove(registry.register(own.Doubling(), "doubling", example=ROWS))
    assert not proof.portable
    assert "own_models_on_the_path" in proof.reason


def test_a_module_imported_when_it_answers_is_missed_too(
    registry: ModelRegistry, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(beside, "own_late", "def twice(rows):\n    return 2 * rows[:, 0]\n", monkeypatch)

    def late(rows: Any) -> Any:
        return importlib.import_module("own_late").twice(rows)

    proof = registry.prove(registry.register(late, "late", example=ROWS))
    assert not proof.portable
    assert "'own_late' is not installed" in proof.reason


def test_a_model_that_reads_a_file_of_the_folder_is_not_portable(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "factor.txt").write_text("3")

    def by_file(rows: Any) -> Any:
        from pathlib import Path as Fresh

        return float(Fresh("factor.txt").read_text()) * rows[:, 0]

    def by_file_if_there(rows: Any) -> Any:
        from pathlib import Path as Fresh

        return rows[:, 0] * (3 if Fresh("factor.txt").exists() else 1)

    missing = registry.prove(registry.register(by_file, "by-file", example=ROWS))
    assert not missing.portable
    assert "factor.txt" in missing.reason
    different = registry.prove(registry.register(by_file_if_there, "by-file", example=ROWS))
    assert not different.portable
    assert "row 0: 3.0 recorded, 1.0 now; row 1: 9.0 recorded, 3.0 now" in different.reason


def test_a_model_that_depends_on_the_environment_is_not_portable(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_environment(rows: Any) -> Any:
        import os as fresh

        return rows[:, 0] + float(fresh.environ.get("MLNB_TEST_BIAS", "0"))

    monkeypatch.setenv("MLNB_TEST_BIAS", "100")
    version = registry.register(by_environment, "by-environment", example=np.arange(12.0).reshape(6, 2))
    monkeypatch.delenv("MLNB_TEST_BIAS")
    proof = registry.prove(version)
    assert not proof.portable
    assert "row 0: 100.0 recorded, 0.0 now" in proof.reason
    assert proof.reason.endswith("and 3 more")


def test_what_the_notebook_set_for_itself_is_not_there(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sklearn

    def by_setting(rows: Any) -> Any:
        import sklearn as fresh

        return rows[:, 0] * (2 if fresh.get_config()["assume_finite"] else 1)

    with sklearn.config_context(assume_finite=True):
        version = registry.register(by_setting, "by-setting", example=ROWS)
    proof = registry.prove(version)
    assert not proof.portable
    assert "row 0: 2.0 recorded, 1.0 now" in proof.reason


def test_a_model_that_prints_is_proved_all_the_same(registry: ModelRegistry) -> None:
    def talking(rows: Any) -> Any:
        print("{}", 100_000 * "x")  # noqa: T201 - that is what it does
        os.write(1, b"more\n")
        return rows[:, 0]

    proof = registry.prove(registry.register(talking, "talking", example=ROWS))
    assert (proof.portable, proof.reason) == (True, "")


def test_a_model_that_is_random_is_portable_and_not_compared(registry: ModelRegistry) -> None:
    def rolling(rows: Any) -> Any:
        from numpy.random import default_rng

        return default_rng().random(len(rows))

    version = registry.register(rolling, "rolling", example=ROWS)
    golden = registry.golden(version)
    assert golden is not None
    assert golden.repeatable is False
    proof = registry.prove(version)
    assert (proof.portable, proof.reason, proof.rows) == (True, "", 0)


@pytest.mark.parametrize(
    "answers",
    [
        np.array([np.inf, -np.inf, 1.0]),
        np.array([np.nan, 1.0, 2.0]),
        np.array([2**63 - 1, -(2**63), 0]),
        np.array([2**64 - 1, 0, 1], dtype=np.uint64),
        np.array([2**70, 0, 1], dtype=object),
        np.array([True, False, True]),
        np.array(["a", "ä\0", ""]),
        np.array([b"a", b"\xff", b""]),
        np.array(["2026-01-01", "NaT", "1970-01-01"], dtype="datetime64[ns]"),
        np.array(["2026-01-01", "NaT", "1970-01-01"], dtype="datetime64[D]"),
        np.array([1, 2, 3], dtype="timedelta64[s]"),
        np.array([1 + 2j, 0, 1j]),
        np.array([None, "a", 1.5], dtype=object),
        np.array([{"box": (1, 2), "score": np.float32(0.1)}, {}, {1: 2}], dtype=object),
        np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        np.zeros((3, 0)),
        np.zeros((3, 2, 2), dtype=np.float16),
    ],
    ids=lambda answers: f"{answers.dtype} {answers.shape} {answers.tolist()!r:.30}",
)
def test_answers_of_any_kind_are_kept_so_that_they_compare(registry: ModelRegistry, answers: Any) -> None:
    """What was stored and read again must agree with what a loaded model answers; else nothing is ever portable."""
    version = registry.register(lambda rows: answers[: len(rows)], "any", example=ROWS)
    golden = ModelRegistry(registry.url).golden(version)
    assert golden is not None
    assert golden.repeatable
    now = ask(predictor(ModelRegistry(registry.url).load(version)), version.signature, golden.rows)
    assert disagreements(golden, now) == []


@pytest.mark.parametrize(
    "example",
    [
        np.array([[np.nan], [1e308], [-0.0]]),
        np.array([[2**63 - 1], [-(2**63)]]),
        np.array([[2**64 - 1], [0]], dtype=np.uint64),
        np.array([[0.1]], dtype=np.float32),
        np.array([["a"], ["ä"]]),
        np.array([["2026-01-01T12:00:00.123456789"], ["1970-01-01"], ["NaT"]], dtype="datetime64[ns]"),
        pd.DataFrame({"when": pd.to_datetime(["2026-01-01T12:00+02:00", "NaT"])}),
        pd.DataFrame({"when": pd.to_datetime(["2026-01-01 12:00:00.123456789", "NaT"], format="ISO8601")}),
        pd.DataFrame({"what": pd.Categorical(["a", None, "b"]), "flag": [True, False, True]}),
        pd.DataFrame({"count": pd.array([1, None], dtype="Int64"), "share": [0.1, np.nan]}),
        ["a text", "", "\0"],
        np.arange(24.0).reshape(2, 3, 4),
    ],
    ids=lambda example: f"{type(example).__name__} {example!r:.40}".replace("\n", " "),
)
def test_rows_of_any_kind_are_kept_so_that_they_can_be_asked_again(registry: ModelRegistry, example: Any) -> None:
    def spelled(rows: Any) -> Any:
        listed = rows.itertuples(index=False) if hasattr(rows, "itertuples") else rows.tolist()
        return [repr(tuple(row) if hasattr(row, "_fields") else row) for row in listed]

    version = registry.register(spelled, "any", example=example)
    golden = ModelRegistry(registry.url).golden(version)
    assert golden is not None
    assert golden.repeatable
    now = ask(predictor(ModelRegistry(registry.url).load(version)), version.signature, golden.rows)
    assert disagreements(golden, now) == []


def test_labels_that_are_digits_must_be_equal() -> None:
    """A postal code is no number: 01067 is not 1067."""
    recorded, other = (
        GoldenRows(rows=[[1]], answers=[label], probabilities=None, dtype="object") for label in ("01067", "1067")
    )
    assert disagreements(recorded, recorded) == []
    assert len(disagreements(recorded, other)) == 1


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float64])
def test_labels_that_are_whole_numbers_must_be_equal(dtype: type) -> None:
    """The tolerance is for rounding; of article numbers the next one is another article."""
    highest = min(10_000_000, np.iinfo(np.uint8).max if dtype is np.uint8 else 10_000_000)
    answers: np.ndarray[Any, Any] = np.array([highest, highest - 1], dtype=dtype)
    recorded = GoldenRows(
        rows=[[1], [2]], answers=answers.tolist(), probabilities=None, dtype=answers.dtype.name, repeatable=True
    )
    swapped = GoldenRows(
        rows=[[1], [2]], answers=answers[::-1].tolist(), probabilities=None, dtype=answers.dtype.name, repeatable=True
    )
    assert disagreements(recorded, recorded) == []
    assert len(disagreements(recorded, swapped)) == (0 if dtype is np.float64 else 2)


# Children that misbehave ---------------------------------------------------------------------------------------------


@pytest.fixture
def no_process_is_left() -> Iterator[None]:
    before = psutil.Process().children(recursive=True)
    yield
    assert set(psutil.Process().children(recursive=True)) <= set(before)


def at_loading(deed: str) -> Any:
    """Return a model that runs ``deed`` when it is unpickled in another process."""

    def revive(registered_by: int, deed: str) -> Any:
        import os as fresh

        if fresh.getpid() != registered_by:
            exec(deed)  # noqa: S102 - the deed is a line of this file

        def first(rows: Any) -> Any:
            return rows[:, 0]

        return first

    class Reviving:
        def __reduce__(self) -> Any:
            return revive, (os.getpid(), deed)

        def predict(self, rows: Any) -> Any:
            return rows[:, 0]

    return Reviving()


@pytest.mark.usefixtures("no_process_is_left")
@pytest.mark.parametrize(
    ("deed", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "-9"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "-11"),
        ("import os; os._exit(3)", "3"),
        ("import sys; sys.exit(4)", "4"),
        ("import sys; sys.stderr.write('out of luck'); sys.stderr.flush(); import os; os.abort()", "out of luck"),
    ],
)
def test_a_model_that_ends_its_process_is_reported(registry: ModelRegistry, deed: str, says: str) -> None:
    proof = registry.prove(registry.register(at_loading(deed), "fatal", example=ROWS))
    assert not proof.portable
    assert "ended with" in proof.reason
    assert says in proof.reason
    assert registry.proof("fatal") == proof


def test_a_model_that_recurses_without_end_is_reported(registry: ModelRegistry) -> None:
    proof = registry.prove(registry.register(at_loading("def f(): return f()\nexec('f()', {'f': f})"), "deep"))
    assert not proof.portable
    assert proof.reason


@pytest.mark.usefixtures("no_process_is_left")
def test_a_model_that_hangs_is_reported_and_its_process_ended(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "_PATIENCE", 3.0)
    version = registry.register(at_loading("import time; time.sleep(1000)"), "hanging", example=ROWS)
    started = time.monotonic()
    proof = registry.prove(version)
    assert time.monotonic() - started < 20
    assert not proof.portable
    assert "did not answer" in proof.reason
    assert registry.proof("hanging") == proof


def test_a_model_that_leaves_a_process_behind_is_proved_and_that_ended(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As joblib's workers do, who inherit the standard output and keep it open."""
    monkeypatch.setattr(proofs, "_PATIENCE", 20.0)
    note = tmp_path / "pid"
    deed = (
        "import subprocess, sys, pathlib; "
        "left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)']); "
        f"pathlib.Path({str(note)!r}).write_text(str(left.pid))"
    )
    version = registry.register(at_loading(deed), "leaving", example=ROWS)
    started = time.monotonic()
    try:
        proof = registry.prove(version)
        assert (proof.portable, proof.reason) == (True, "")
        assert time.monotonic() - started < 15
        wait_until(lambda: is_gone(int(note.read_text())))
    finally:
        if note.exists() and not is_gone(int(note.read_text())):
            os.kill(int(note.read_text()), signal.SIGKILL)


def test_a_model_that_asks_joblibs_processes_is_proved(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "_PATIENCE", 30.0)
    here = os.getpid()

    def side_by_side(rows: Any) -> Any:
        import os as fresh

        import joblib

        if fresh.getpid() == here:  # spares the workers of this process
            return rows[:, 0]
        return joblib.Parallel(n_jobs=2)(joblib.delayed(float)(row[0]) for row in rows)

    proof = registry.prove(registry.register(side_by_side, "side-by-side", example=ROWS))
    assert (proof.portable, proof.reason) == (True, "")


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


PROVING = """
import os, sys
import numpy as np
from mlnb import ModelRegistry

def revive(registered_by, note):
    import os, pathlib, time
    if os.getpid() != registered_by:
        pathlib.Path(note).write_text(str(os.getpid()))
        time.sleep(1000)
    return lambda rows: rows

class Reviving:
    def __reduce__(self):
        return revive, (os.getpid(), sys.argv[2])

    def predict(self, rows):
        return rows

registry = ModelRegistry(sys.argv[1])
registry.prove(registry.register(Reviving(), "hanging"))
"""


def test_the_child_ends_when_its_parent_is_killed(home: Path, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", PROVING, str(home), str(note)]) as parent:
        try:
            wait_until(lambda: note.exists() and note.read_text() != "", seconds=30)
            child = int(note.read_text())
            assert child != parent.pid
            assert not is_gone(child)
            assert os.getsid(child) == child  # an Interrupt of the kernel does not reach it
        finally:
            parent.kill()
    wait_until(lambda: is_gone(child))


# In the background ---------------------------------------------------------------------------------------------------


def test_of_each_key_the_newest_job_is_done_and_the_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLNB_PROVE", "on")
    prover, done = Prover(calm=0.2), list[str]()
    for number in range(50):
        prover.submit("iris", lambda number=number: done.append(f"iris {number}"))  # type: ignore[misc]
    prover.submit("digits", lambda: done.append("digits"))
    assert mlnb_threads() == ["mlnb prover"]
    wait_until(lambda: not mlnb_threads())
    assert sorted(done) == ["digits", "iris 49"]
    prover.submit("iris", lambda: done.append("again"))
    wait_until(lambda: not mlnb_threads())
    assert done[-1] == "again"


def test_a_job_that_comes_while_one_is_done_is_done_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLNB_PROVE", "on")
    prover, done, running, go_on = Prover(calm=0.0), list[str](), threading.Event(), threading.Event()

    def slow() -> None:
        running.set()
        go_on.wait(10)
        done.append("slow")

    prover.submit("iris", slow)
    assert running.wait(10)
    for text in ("older", "newer"):
        prover.submit("iris", lambda text=text: done.append(text))  # type: ignore[misc]
    go_on.set()
    wait_until(lambda: not mlnb_threads())
    assert done == ["slow", "newer"]


def test_a_job_that_fails_is_logged_and_the_next_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLNB_PROVE", "on")
    prover, done = Prover(calm=0.0), list[str]()
    prover.submit("bad", lambda: 1 // 0)
    prover.submit("good", lambda: done.append("good"))
    wait_until(lambda: not mlnb_threads())
    assert done == ["good"]
    assert "A version could not be proved" in caplog.text


def test_mlnb_prove_off_starts_nothing(registry: ModelRegistry) -> None:
    done: list[str] = []
    Prover(calm=0.0).submit("iris", lambda: done.append("done"))
    registry.register(lambda rows: rows[:, 0], "first", example=ROWS)
    assert mlnb_threads() == []
    assert done == []


def test_registering_proves_the_newest_version(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLNB_PROVE", "on")
    for _ in range(5):
        newest = registry.register(lambda rows: rows[:, 0], "first", example=ROWS)
    wait_until(lambda: not mlnb_threads(), seconds=60)
    assert [event.version for event in registry.history("first") if event.action == "proved"] == [newest.number]
    proof = registry.proof("first")
    assert isinstance(proof, Proof)
    assert (proof.portable, proof.rows) == (True, 3)


# Other packages than those recorded ----------------------------------------------------------------------------------

PACKAGE = """
import numpy as np

__version__ = "{version}"


class Scaling:
    def predict(self, rows):
        return {factor} * np.asarray(rows)[:, 0]
"""


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, *, version: str, factor: int) -> ModuleType:
    """Install, or upgrade to, a version of a small package."""
    place = folder / "scalinglib"
    place.mkdir(exist_ok=True)
    (place / "__init__.py").write_text(PACKAGE.format(version=version, factor=factor))
    monkeypatch.delitem(sys.modules, "scalinglib", raising=False)
    importlib.invalidate_caches()
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode  # two versions within a second have the same time
    try:
        found = importlib.import_module("scalinglib")
    finally:
        sys.dont_write_bytecode = kept
    monkeypatch.setitem(sys.modules, "scalinglib", found)
    return found


def test_another_version_that_answers_otherwise_is_warned_of_and_refused(
    registry: ModelRegistry, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaling = package(beside, monkeypatch, version="1.4.0", factor=2).Scaling()
    version = registry.register(scaling, "scaling", example=ROWS)
    assert version.environment["packages"]["scalinglib"] == "1.4.0"
    assert registry.load("scaling").predict(ROWS).tolist() == [2.0, 6.0, 10.0]
    package(beside, monkeypatch, version="2.0.1", factor=3)
    with (
        pytest.warns(EnvironmentWarning, match=r"scaling:1: scalinglib 1\.4\.0 recorded, 2\.0\.1 here") as warned,
        pytest.raises(GoldenRowsError, match=r"3 of its 3 golden rows.*row 0: 2\.0 recorded, 3\.0 now.*allow_mismatch"),
    ):
        ModelRegistry(registry.url).load("scaling")
    assert [Path(one.filename).name for one in warned] == [Path(__file__).name]  # it points at who asked
    with pytest.warns(EnvironmentWarning, match=r"2\.0\.1 here"):
        model = ModelRegistry(registry.url).load("scaling", allow_mismatch=True)
    assert model.predict(ROWS).tolist() == [3.0, 9.0, 15.0]


def test_another_version_that_answers_alike_is_warned_of_and_loaded(
    registry: ModelRegistry, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(package(beside, monkeypatch, version="1.4.0", factor=2).Scaling(), "scaling", example=ROWS)
    package(beside, monkeypatch, version="1.5.0", factor=2)
    with pytest.warns(EnvironmentWarning, match=r"scalinglib 1\.4\.0 recorded, 1\.5\.0 here"):
        model = ModelRegistry(registry.url).load("scaling")
    assert model.predict(ROWS).tolist() == [2.0, 6.0, 10.0]


def test_a_module_without_a_version_that_changed_is_found_by_its_answers(
    registry: ModelRegistry, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = module(beside, "own_changing", DOUBLING, monkeypatch)
    registry.register(own.Doubling(), "doubling", example=ROWS)
    assert registry.load("doubling").predict(ROWS).tolist() == [2.0, 6.0, 10.0]
    monkeypatch.setattr(own.Doubling, "predict", lambda _, rows: 4 * rows[:, 0])
    with pytest.raises(GoldenRowsError, match=r"row 0: 2\.0 recorded, 4\.0 now"):
        ModelRegistry(registry.url).load("doubling")
    assert registry.load("doubling", allow_mismatch=True).predict(ROWS).tolist() == [4.0, 12.0, 20.0]
