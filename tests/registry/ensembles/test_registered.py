"""Ensembles at rest: exact versions of the members, loaded once, kept, copied and proved."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from mlnb import Ensemble, ModelRegistry
from mlnb.errors import (
    IntegrityError,
    InvalidInputError,
    InvalidNameError,
    ModelNotFoundError,
    NotServableError,
    RegistryFormatError,
    UntrustedError,
    VersionInUseError,
)
from mlnb.registry.sharing import SharedModels
from mlnb.scaling.preloading import modules_of

FRAME, NUMBERS = load_iris(as_frame=True, return_X_y=True)
LENGTHS = list(FRAME.columns[::2])
FOREST = RandomForestClassifier(5, random_state=0).fit(FRAME, NUMBERS)
TREE = DecisionTreeClassifier(max_depth=3, random_state=0).fit(FRAME[LENGTHS], NUMBERS)


def mixed(registry: ModelRegistry, **settings: Any) -> Ensemble:
    """One stored member, one that is not stored yet and knows two columns, and a function."""
    if "forest" not in registry.names():
        registry.register(FOREST, "forest", example=FRAME)

    def shares(rows: Any) -> Any:
        return np.tile([0.2, 0.3, 0.5], (len(rows), 1))

    given = {"forest": "forest", "tree": TREE, "function": shares}
    chosen: dict[str, Any] = {"combine": "mean", "registry": registry} | settings
    return Ensemble(given, **chosen)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"combine": "vote", "weights": [1, 2, 0.5], "quorum": 2},
        {"combine": "cascade", "threshold": 0.8, "labels": [0, 1, 2]},
        {"combine": "weighted"},
        {"combine": LogisticRegression(max_iter=500)},
        {"combine": XGBClassifier(n_estimators=2)},
    ],
)
def test_what_is_loaded_answers_the_same(registry: ModelRegistry, settings: dict[str, Any]) -> None:
    names = (
        np.array(["setosa", "versicolor", "virginica"])[NUMBERS]
        if not isinstance(settings.get("combine", ""), str)
        else NUMBERS
    )
    ours = mixed(registry, **settings)
    if ours.plan.combine in ("weighted", "stacking"):
        ours.fit(FRAME, names)
    version = registry.register(ours, "mix", example=FRAME)
    again = ModelRegistry(registry.url).load("mix")
    assert (again.predict(FRAME) == ours.predict(FRAME)).all()
    assert hasattr(again, "predict_proba") is hasattr(ours, "predict_proba") is version.signature.probabilities
    if version.signature.probabilities:
        assert (again.predict_proba(FRAME) == ours.predict_proba(FRAME)).all()
    assert (again.plan.quorum, again.plan.threshold, again.weights) == (
        ours.plan.quorum,
        ours.plan.threshold,
        ours.weights,
    )
    assert again.classes_.tolist() == ours.classes_.tolist() == list(version.signature.labels or ())
    assert repr(again) == f"<Ensemble {ours.plan.combine} of forest:1, mix-tree:1, mix-function:1>"
    assert version.format == "ensemble"
    assert version.signature.output == "class"
    assert version.parameters["members"] == "forest=forest:1, tree=mix-tree:1, function=mix-function:1"


def test_the_manifest_points_to_exact_versions(registry: ModelRegistry) -> None:
    version = registry.register(mixed(registry, combine="vote", weights=[1, 2, 3]), "mix", example=FRAME)
    registry.register(DecisionTreeClassifier().fit(FRAME, NUMBERS), "forest", example=FRAME)  # forest:2 changes nothing
    manifest = json.loads(
        Path(registry.url, "blobs", "sha256", version.files[0].digest[:2], version.files[0].digest).read_text()
    )
    assert [file.path for file in version.files] == ["ensemble.json"]
    assert manifest["members"][0] == {
        "member": "forest", "name": "forest", "number": 1, "digest": registry.version("forest:1").digest,
    }  # fmt: skip
    assert version.parameters == {
        "combine": "vote", "members": "forest=forest:1, tree=mix-tree:1, function=mix-function:1",
        "weights": "forest=1, tree=2, function=3",
    }  # fmt: skip
    assert registry.load("mix").members["forest"].version == registry.version("forest:1")
    assert registry.version("mix-tree").signature.names == tuple(LENGTHS)
    assert registry.version("mix-function").signature.names == tuple(FRAME.columns)
    assert {"sklearn", "sklearn.tree._classes", "sklearn.ensemble._forest"} <= modules_of(version)
    assert str(registry.diff("mix:1", "mix:1")).endswith("no difference")
    assert "forest=forest:1" in registry.card("mix").markdown


def test_a_pickled_ensemble_knows_its_versions(registry: ModelRegistry) -> None:
    registry.register(mixed(registry), "mix", example=FRAME)
    loaded = registry.load("mix")
    again = cloudpickle.loads(cloudpickle.dumps(loaded))
    assert repr(again) == repr(loaded)
    assert (again.predict_proba(FRAME) == loaded.predict_proba(FRAME)).all()


def test_members_that_did_not_change_are_not_stored_again(registry: ModelRegistry) -> None:
    ours = mixed(registry)
    assert str(registry.register(ours, "mix", example=FRAME)) == "mix:1"
    assert str(registry.register(ours, "mix", example=FRAME)) == "mix:2"
    assert [len(registry.versions(name)) for name in ("forest", "mix", "mix-function", "mix-tree")] == [1, 2, 1, 1]


@pytest.mark.parametrize("example", [FRAME.to_numpy(), FRAME.to_numpy().tolist(), None])
def test_members_of_arrays(registry: ModelRegistry, example: Any) -> None:
    rows = FRAME.to_numpy()
    ours = Ensemble([DecisionTreeClassifier(max_depth=depth).fit(rows, NUMBERS) for depth in (1, 2)], combine="mean")
    version = registry.register(ours, "mix", example=example)
    assert len(version.signature.fields) == 4
    assert (registry.load("mix").predict_proba(rows) == ours.predict_proba(rows)).all()


def test_nothing_is_registered_of_what_is_refused(registry: ModelRegistry, tmp_path: Path) -> None:
    lock = threading.Lock()

    def locked(rows: Any) -> Any:
        with lock:
            return np.zeros(len(rows), dtype=int)

    def failing(rows: Any) -> Any:
        raise ValueError("not today")

    def numbered(rows: Any) -> Any:
        return np.full((len(rows), 3), 0.5)

    fine = DecisionTreeClassifier().fit(FRAME, NUMBERS)
    nested = Ensemble([TREE, FOREST], combine="vote")
    elsewhere = ModelRegistry(tmp_path / "elsewhere")
    elsewhere.register(FOREST, "forest", example=FRAME)
    refused: list[tuple[Any, Any, type[Exception], str]] = [
        ({"bad": locked}, "vote", NotServableError, "cannot be pickled"),
        ({"bad": failing}, "vote", NotServableError, "'bad' failed: ValueError: not today"),
        ({"bad": numbered}, "mean", NotServableError, "'bad' answers with rows that"),
        ({"b" * 60: TREE}, "vote", InvalidNameError, "is not a valid model name"),
        ({"tree": TREE}, lambda rows: lock and rows[:, 0], NotServableError, "cannot be pickled"),
        ({"forest": "forest"}, "vote", InvalidInputError, "Copy it there first"),
        ({"in": nested}, "vote", InvalidInputError, "'in' is an ensemble whose member 'm1' is not stored. Register"),
    ]
    for members, combine, error, message in refused:
        ensemble = Ensemble({"fine": fine, **members}, combine=combine, registry=elsewhere)
        with pytest.raises(error, match=message):
            registry.register(ensemble, "mix", example=FRAME)
    with pytest.raises(InvalidInputError, match="stored as 'ensemble', not as 'skops'"):
        registry.register(mixed(elsewhere), "mix", example=FRAME, serializer="skops")
    assert registry.names() == []


def test_it_is_no_member_of_itself(registry: ModelRegistry) -> None:
    registry.register(mixed(registry), "mix", example=FRAME)
    again = Ensemble({"mix": "mix", "tree": TREE}, combine="mean", registry=registry)
    with pytest.raises(InvalidInputError, match="'mix' is mix:1, and 'mix' is the ensemble itself"):
        registry.register(again, "mix", example=FRAME)
    registry.register(again, "outer", example=FRAME)
    third = Ensemble({"outer": "outer", "tree": TREE}, combine="mean", registry=registry)
    with pytest.raises(InvalidInputError, match="'mix' is mix:1"):
        registry.register(third, "mix", example=FRAME)
    assert [version.number for version in registry.versions("mix")] == [1]


def test_a_member_is_not_deleted_under_an_ensemble(registry: ModelRegistry) -> None:
    registry.register(mixed(registry), "mix", example=FRAME)
    with pytest.raises(VersionInUseError, match="mix-tree:1 is a member of the ensemble mix:1: delete that first"):
        registry.delete("mix-tree:1")
    registry.delete("mix:1")
    registry.delete("mix-tree:1")
    registry.register(mixed(registry), "mix", example=FRAME)
    registry.delete("forest:1", force=True)
    with pytest.raises(
        ModelNotFoundError, match="the member 'forest' is forest:1, which is gone: There is no model 'forest'"
    ):
        registry.load("mix")


def test_a_copy_points_to_copies_of_the_members(registry: ModelRegistry, tmp_path: Path) -> None:
    ours = mixed(registry, combine=LogisticRegression(max_iter=500)).fit(FRAME, NUMBERS)
    registry.register(ours, "mix", example=FRAME)
    outer = Ensemble({"mix": "mix", "tree": "mix-tree"}, combine="mean", registry=registry)
    registry.register(outer, "outer", example=FRAME)
    other = ModelRegistry(tmp_path / "other")
    other.register(Ridge().fit(FRAME, NUMBERS), "forest", example=FRAME)  # so that numbers differ
    assert str(registry.copy("outer", other)) == "outer:1"
    assert other.version("mix").parameters["members"] == "forest=forest:2, tree=mix-tree:1, function=mix-function:1"
    assert (other.load("outer").predict_proba(FRAME) == outer.predict_proba(FRAME)).all()
    copied = registry.copy("outer", other)
    assert str(copied) == "outer:2"
    assert copied.parameters["members"] == "mix=mix:1, tree=mix-tree:1"
    assert [len(other.versions(name)) for name in ("forest", "mix", "mix-tree", "mix-function")] == [2, 1, 1, 1]
    other.collect()
    other.load("outer:2")


def test_digests_of_members_are_checked(registry: ModelRegistry) -> None:
    registry.register(mixed(registry), "mix", example=FRAME)
    blob = registry.version("mix-tree").files[0].digest
    path = Path(registry.url, "blobs", "sha256", blob[:2], blob)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError):
        registry.load("mix")


def test_a_manifest_of_a_newer_mlnb(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlnb.registry.ensembles.stored._FORMAT", 2)
    registry.register(mixed(registry), "mix", example=FRAME)
    monkeypatch.undo()
    with pytest.raises((RegistryFormatError, UntrustedError)):
        ModelRegistry(registry.url).assume_trusted().load("mix")


def test_trust_is_asked_of_members_and_of_the_final_estimator(registry: ModelRegistry) -> None:
    boosted = [
        XGBClassifier(n_estimators=count).fit(FRAME, NUMBERS) for count in (1, 2)
    ]  # in a format that runs no code
    registry.register(Ensemble(boosted, combine="mean"), "safe", example=FRAME)
    stack = Ensemble(boosted, combine=LogisticRegression(max_iter=500)).fit(FRAME, NUMBERS)
    registry.register(stack, "stack", example=FRAME)
    registry.register(mixed(registry), "mix", example=FRAME)
    registry.distrust()
    stranger = ModelRegistry(registry.url)
    stranger.load("safe")
    with pytest.raises(UntrustedError, match="stack:1 was not loaded"):
        stranger.load("stack")
    with pytest.raises(UntrustedError, match="forest:1 was not loaded"):
        stranger.load("mix")
    with pytest.raises(UntrustedError, match="forest:1"):
        stranger.copy("mix", registry.url + "-copy")


def test_a_child_process_proves_it(registry: ModelRegistry) -> None:
    registry.register(mixed(registry), "mix", example=FRAME)
    proof = registry.prove("mix")
    assert str(proof) == "portable, 32 golden rows answered alike"
    assert any(one.startswith("scikit-learn==") for one in proof.requirements)


def test_members_are_loaded_once(registry: ModelRegistry) -> None:
    for name in ("mix", "mux"):
        registry.register(mixed(registry), name, example=FRAME)
    forest = registry.load("forest", shared=True)
    one, other = registry.load("mix"), ModelRegistry(registry.url).load("mux", mapped=True)
    assert one.members["forest"].model is other.members["forest"].model is forest
    assert registry.load("forest") is not forest
    seen = weakref.ref(forest)
    del one, other, forest
    gc.collect()
    assert seen() is None
    assert registry.load("forest", shared=True).n_estimators == 5


def test_threads_that_load_the_same_load_it_once() -> None:
    class Model:
        pass

    loaded: list[Model] = []
    ready = threading.Barrier(8)

    def load() -> Model:
        loaded.append(Model())
        return loaded[-1]

    models, found = SharedModels(), []

    def ask() -> None:
        ready.wait()
        found.append(models.get("key", load))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1
    assert found == loaded * 8
    assert models.get("number", lambda: 7) == 7  # which cannot be referenced weakly
    assert models.get("number", lambda: 8) == 8


def test_what_cannot_be_loaded_is_tried_again() -> None:
    models = SharedModels()
    with pytest.raises(OSError, match="gone"):
        models.get("key", lambda: (_ for _ in ()).throw(OSError("gone")))
    assert models.get("key", list) == []
