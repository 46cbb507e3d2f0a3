"""What all tests share: a registry folder of their own, and nothing left deployed."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fitted import Fitted, fitted
from hypothesis import settings
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from threads import mlnb_threads
from waiting import wait_until

import mlnb

# A deadline would measure the machine, which others share; the time of all examples is what the suite may take.
# For a change to be let in, the examples are the same ones each time (Hypothesis's own profile for CI does so as well).
settings.register_profile("mlnb", deadline=None, max_examples=50, derandomize="CI" in os.environ)
settings.load_profile("mlnb")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let those with a browser come last: Playwright keeps its processes, and a running loop on the main thread."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.fixture(scope="session")
def tumour() -> Fitted:
    """Breast cancer as a DataFrame, labels as text, a forest."""
    data = load_breast_cancer(as_frame=True)
    return fitted(RandomForestClassifier(20, random_state=0), data.data, data.target_names[data.target])


@pytest.fixture(scope="session")
def digits() -> Fitted:
    """Digits as an array, labels as numbers, a linear model."""
    data = load_digits()
    return fitted(LogisticRegression(max_iter=3000), data.data / 16, data.target)


@pytest.fixture(scope="session")
def diabetes() -> Fitted:
    """Diabetes as a DataFrame, a linear regression."""
    data = load_diabetes(as_frame=True)
    return fitted(Ridge(), data.data, data.target)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The default registry of a test; at its end nothing is deployed and no thread of mlnb is left."""
    folder = tmp_path / "models"
    monkeypatch.setenv("MLNB_HOME", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # the registries that are trusted
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / ".jupyter"))  # where a record says what is live
    monkeypatch.setenv("MLNB_PROVE", "off")  # proofs are for the tests that ask for them
    yield folder
    mlnb.stop()
    wait_until(lambda: not mlnb_threads())


@pytest.fixture(autouse=True)
def without_pauses(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where times are compared, what the tests have imported is not looked through by the garbage collector.

    A full collection of it stops the interpreter for 40 to 400 ms, in one of the two spans that are compared.
    """
    if request.node.get_closest_marker("alone") is None:
        yield
        return
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def registry(home: Path) -> mlnb.ModelRegistry:
    return mlnb.ModelRegistry(home)
