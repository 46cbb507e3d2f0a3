"""From a version to what is packaged."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from mlnb.errors import PackagingError
from mlnb.packaging.subjects import subject_of
from mlnb.registry import ModelRegistry

ROWS = np.arange(12.0).reshape(6, 2)
LINE = LinearRegression().fit(ROWS, ROWS[:, 0])


def test_what_a_version_brings(registry: ModelRegistry) -> None:
    version = registry.register(LINE, "line", example=ROWS, description="straight", serializer="skops")
    subject = subject_of(registry, version)
    assert (subject.reference, subject.description, subject.size) == ("line:1", "straight", version.size)
    assert subject.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    for needed in ("scikit-learn", "skops"):
        assert f"{needed}=={installed(needed)}" in subject.requirements
    assert (subject.extras, subject.registry) == ((), "")
    proof = registry.proof(version)
    assert proof is not None  # it was proved for this
    assert subject_of(registry, version) == subject
    assert len([event for event in registry.history("line") if event.action == "proved"]) == 1


def test_a_version_that_needs_its_notebook_is_refused(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("class Model:\n    def predict(self, rows): return [0] * len(rows)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import mine  # type: ignore[import-not-found]

    version = registry.register(mine.Model(), "mine", example=ROWS)
    with pytest.raises(PackagingError, match=r"mine:1 does not work without its notebook: .*by_value=\[mine\]"):
        subject_of(registry, version)


def test_a_source_has_to_be_reachable_from_a_container(registry: ModelRegistry, tmp_path: Path) -> None:
    version = registry.register(LINE, "line", example=ROWS)
    with pytest.raises(PackagingError, match=r"cannot fetch line:1 from '.*': give the URL .*s3://bucket/prefix"):
        subject_of(registry, version, source=str(tmp_path))
