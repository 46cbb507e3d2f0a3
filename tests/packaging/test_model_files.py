"""The registry folder that goes into an image."""

from __future__ import annotations

import getpass
import os
import platform
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Fitted
from sklearn.linear_model import LinearRegression

import mlnb
from mlnb.errors import IntegrityError, InvalidInputError, PackagingError, UntrustedError
from mlnb.packaging.model_files import write_model
from mlnb.registry import ModelRegistry

X = np.arange(12.0).reshape(6, 2)


@pytest.fixture
def third(registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> mlnb.ModelVersion:
    """Version 3, which was copied here, in a notebook, by a person with a name."""
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "somebody-special")
    before = ModelRegistry(tmp_path / "elsewhere")
    for slope in (1, 2, 3):
        before.register(LinearRegression().fit(X, slope * X[:, 0]), "line", example=X, metrics={"r2": 1.0})
        before.copy(f"line:{slope}", registry)
    return registry.version("line:3")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_version_keeps_its_number_and_what_belongs_to_it(
    registry: ModelRegistry, third: mlnb.ModelVersion, tmp_path: Path
) -> None:
    write_model(registry, third, tmp_path / "model")
    there = ModelRegistry(tmp_path / "model").assume_trusted()
    assert there.names() == ["line"]
    (version,) = there.versions("line")
    assert (version.number, version.created, version.digest) == (3, third.created, third.digest)
    assert there.load("line:3").predict(X) == pytest.approx(3 * X[:, 0])
    golden, baseline = there.golden(version), there.baseline(version)
    assert golden is not None
    assert baseline is not None
    assert golden.to_json() == registry.golden(third).to_json()  # type: ignore[union-attr]
    assert [event.action for event in there.history("line")] == ["registered"]
    assert there.aliases("line") == {}


def test_it_names_no_person_machine_or_folder_and_is_the_same_each_time(
    registry: ModelRegistry, third: mlnb.ModelVersion, tmp_path: Path
) -> None:
    assert third.lineage["user"] == getpass.getuser() == "somebody-special"
    assert "copied_from" in third.lineage
    write_model(registry, third, tmp_path / "one" / "model")
    write_model(registry, third, tmp_path / "two")
    found = contents(tmp_path / "one" / "model")
    assert found == contents(tmp_path / "two")
    texts = [*found, *(content.decode(errors="replace") for content in found.values())]
    told = ("somebody-special", str(tmp_path), "copied_from", "host", f"@{platform.node()}")
    assert not [text for text in texts if any(word in text for word in told)]
    assert not ModelRegistry(tmp_path / "two").trusted


def test_whoever_runs_in_the_container_can_read_it(
    registry: ModelRegistry, third: mlnb.ModelVersion, tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        write_model(registry, third, tmp_path / "model")
    finally:
        os.umask(before)
    paths = [tmp_path / "model", *(tmp_path / "model").rglob("*")]
    assert {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in paths} == {(True, 0o755), (False, 0o644)}


def test_the_members_of_an_ensemble_come_along(registry: ModelRegistry, tumour: Fitted, tmp_path: Path) -> None:
    for _ in range(2):
        registry.register(tumour.model, "forest", example=tumour.rows)
    members: Any = {"old": "forest:1", "new": "forest:2"}
    registry.register(mlnb.Ensemble(members, combine="vote", registry=registry), "both", example=tumour.rows)
    outer: Any = {"both": "both", "forest": "forest:2"}
    version = registry.register(mlnb.Ensemble(outer, combine="vote", registry=registry), "outer", example=tumour.rows)
    assert [str(one) for one in registry.family(version)] == ["forest:1", "forest:2", "both:1", "outer:1"]
    write_model(registry, version, tmp_path / "model")
    there = ModelRegistry(tmp_path / "model").assume_trusted()
    assert there.names() == ["both", "forest", "outer"]
    assert there.version("outer").digest == version.digest
    assert there.load("outer").predict(tumour.rows).tolist() == tumour.predictions.tolist()


def test_another_version_takes_the_place_of_the_one_before(
    registry: ModelRegistry, third: mlnb.ModelVersion, tmp_path: Path
) -> None:
    write_model(registry, third, tmp_path / "model")
    write_model(registry, registry.version("line:1"), tmp_path / "model")
    assert [one.number for one in ModelRegistry(tmp_path / "model").versions("line")] == [1]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".model")]


def test_what_cannot_be_written_leaves_what_was_there(
    registry: ModelRegistry, third: mlnb.ModelVersion, tmp_path: Path
) -> None:
    write_model(registry, third, tmp_path / "model")
    before = contents(tmp_path / "model")
    first = registry.version("line:1")
    digest = first.contents[0]
    stored = Path(registry.url) / "blobs" / "sha256" / digest[:2] / digest
    stored.chmod(0o644)
    stored.write_bytes(b"something else")
    with pytest.raises(IntegrityError, match="SHA-256"):
        write_model(registry, first, tmp_path / "model")
    registry.distrust()
    with pytest.raises(UntrustedError):
        write_model(registry, third, tmp_path / "model")
    assert contents(tmp_path / "model") == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(PackagingError, match="holds files that are no registry's"):
        write_model(registry, third, tmp_path / "notes")
    assert contents(tmp_path / "notes") == {"mine.txt": b"mine"}
    with pytest.raises(InvalidInputError, match=r"is a registry already; give a new folder, or copy\('line:3'\)"):
        registry.export("line:3", tmp_path / "model")
