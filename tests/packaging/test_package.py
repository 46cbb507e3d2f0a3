"""What mlnb.package writes, and what it refuses; what is built from it has tests of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fitted import Fitted

import mlnb
from mlnb.errors import InvalidInputError, ModelNotFoundError, PackagingError
from mlnb.packaging.package import Package, Target


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, diabetes: Fitted) -> mlnb.ModelRegistry:
    registry = mlnb.ModelRegistry(tmp_path_factory.mktemp("models"))
    registry.register(diabetes.model, "diabetes", example=diabetes.rows, description='say "hi" to $HOME')
    registry.prove("diabetes")
    return registry


def texts(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "secrets"
    }


def listed(package: Package) -> set[str]:
    return {file.path for file in package.files if "/" not in file.path or file.path.startswith("kubernetes/")}


_IMAGE = {"Dockerfile", ".dockerignore", "requirements.txt", "uv.txt"}


@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("docker", set()),
        ("compose", {"compose.yaml"}),
        ("kubernetes", {"deployment", "service.yaml", "disruption-budget"}),
    ],
)
def test_each_target_has_what_the_image_is_made_of_and_its_own_files(
    registry: mlnb.ModelRegistry, tmp_path: Path, target: Target, more: set[str]
) -> None:
    package = mlnb.package("diabetes", tmp_path / "build", target=target, registry=registry)
    found = listed(package)
    assert found >= _IMAGE
    assert len(found - _IMAGE) >= len(more)
    assert all(any(kind in path for path in found) for kind in more)
    assert {file.path for file in package.files} == texts(tmp_path / "build").keys() - {".mlnb-package.json"}
    assert package.commands[0].line == f"docker build -t diabetes:1 {tmp_path / 'build'}"
    assert package.token not in repr(package) + package._repr_html_()
    for path in found:
        if path.endswith(".yaml"):
            assert list(yaml.safe_load_all((tmp_path / "build" / path).read_text()))


def test_the_same_version_gives_the_same_bytes(registry: mlnb.ModelRegistry, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        mlnb.package("diabetes", tmp_path / folder, target="kubernetes", registry=registry)
    assert texts(tmp_path / "one") == texts(tmp_path / "two")


def test_nothing_of_this_machine_is_in_the_files(registry: mlnb.ModelRegistry, tmp_path: Path) -> None:
    mlnb.package("diabetes", tmp_path / "build", target="kubernetes", registry=registry)
    everything = b"".join(texts(tmp_path / "build").values())
    for word in (str(tmp_path), str(Path.home()) + "/", str(Path(mlnb.__file__).parent)):
        assert word.encode() not in everything


def test_what_was_measured_becomes_what_is_asked_for(diabetes: Fitted, tmp_path: Path) -> None:
    with mlnb.deploy(diabetes.model, name="diabetes", example=diabetes.rows, replicas="1:3") as deployment:
        deployment.predict(diabetes.rows[:5])
        package = deployment.package(tmp_path / "build", target="kubernetes")
    assert package.wishes.measured.memory is not None
    assert package.wishes.measured.memory > 40e6
    scaler = next(file for file in package.files if "autoscaler" in file.path)
    assert scaler.text is not None
    wanted = yaml.safe_load(scaler.text)
    assert (wanted["spec"]["minReplicas"], wanted["spec"]["maxReplicas"]) == (1, 3)


def test_what_is_asked_for_by_hand_counts_more_than_what_was_measured(
    registry: mlnb.ModelRegistry, tmp_path: Path
) -> None:
    package = mlnb.package(
        "diabetes:1", tmp_path / "build", target="kubernetes", registry=registry, cores=0.1, memory="300 MiB"
    )
    text = next(file.text for file in package.files if file.path.endswith("-deployment.yaml"))
    assert text is not None
    (container,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "100m", "memory": "300Mi"}
    assert any("as its user said" in note for note in package.notes)


def test_a_name_that_is_live_means_the_live_version_and_a_reference_its_own(diabetes: Fitted, tmp_path: Path) -> None:
    with mlnb.deploy(diabetes.model, name="diabetes", example=diabetes.rows) as deployment:
        mlnb.deploy(diabetes.model, name="diabetes", example=diabetes.rows)
        deployment.rollback()
        assert mlnb.package("diabetes", tmp_path / "live").subject.number == 1
        assert mlnb.package("diabetes:2", tmp_path / "two").subject.number == 2


def test_a_folder_that_holds_another_version_by_now_is_not_taken_for_the_first(
    registry: mlnb.ModelRegistry, diabetes: Fitted, tmp_path: Path
) -> None:
    first = mlnb.package("diabetes:1", tmp_path / "build", registry=registry)
    registry.register(diabetes.model, "diabetes", example=diabetes.rows)
    mlnb.package("diabetes:2", tmp_path / "build", registry=registry)
    for verb in (first.build, first.run, first.up):
        with pytest.raises(PackagingError, match="holds diabetes:2 by now"):
            verb()


def test_an_image_that_is_named_after_no_repository_is_not_pushed(registry: mlnb.ModelRegistry, tmp_path: Path) -> None:
    package = mlnb.package("diabetes:1", tmp_path / "build", registry=registry)
    with pytest.raises(PackagingError, match=r"diabetes:1 is named after no repository; .* repository="):
        package.push()
    named = mlnb.package("diabetes:1", tmp_path / "build", registry=registry, repository="registry.test/team")
    assert named.commands[1].line == "docker push registry.test/team/diabetes:1"


def test_what_cannot_be_packaged_leaves_nothing(home: Path, tmp_path: Path) -> None:
    registry = mlnb.ModelRegistry(home)
    registry.register(_elsewhere(tmp_path), "odd", example=[[1.0]])
    (tmp_path / "weights.txt").unlink()
    with pytest.raises(PackagingError, match="does not work without its notebook"):
        mlnb.package("odd", tmp_path / "build")
    with pytest.raises(ModelNotFoundError, match="nobody"):
        mlnb.package("nobody", tmp_path / "build")
    with pytest.raises(InvalidInputError, match="'podman'"):
        mlnb.package("odd", tmp_path / "build", target="podman")  # type: ignore[arg-type]
    assert not (tmp_path / "build").exists()


def _elsewhere(folder: Path) -> object:
    """Return a model that needs a file which it takes for granted."""
    place = folder / "weights.txt"
    place.write_text("2")

    class NeedsFile:
        def predict(self, rows: list[list[float]]) -> list[float]:
            factor = float(place.read_text())
            return [factor * row[0] for row in rows]

    return NeedsFile()
