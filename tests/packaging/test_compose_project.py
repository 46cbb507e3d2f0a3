"""Compose, by its own command: up, failed, foreign and down; and machines without it."""

from __future__ import annotations

import shutil
from pathlib import Path

import docker
import pytest
from little_images import Little

from mlnb.errors import EngineError, PackagingError
from mlnb.packaging.compose_project import down, up
from mlnb.packaging.documents import to_yaml
from mlnb.packaging.progress import Progress

PROJECT = "mlnb-test-project"


def written(folder: Path, image: str, *, test: str = "true") -> Path:
    """Write a Compose file with one service; its health is what a command says."""
    health = {"test": ["CMD", test], "interval": "200ms", "retries": 2}
    service = {"image": image, "ports": ["127.0.0.1::8000"], "healthcheck": health, "init": True}
    folder.mkdir(exist_ok=True)
    (folder / "compose.yaml").write_text(to_yaml({"services": {"model": service}}))
    return folder


def containers(engine: docker.DockerClient) -> list[str]:
    found = engine.containers.list(all=True, filters={"label": f"com.docker.compose.project={PROJECT}"})
    return [str(one.name) for one in found]


@pytest.mark.docker
def test_up_and_down_again(little: Little, engine: docker.DockerClient, tmp_path: Path) -> None:
    folder = written(tmp_path / "one", little.image())
    told: list[Progress] = []
    with up(folder, project=PROJECT, watch=told.append) as project:
        assert containers(engine) == [f"{PROJECT}-model-1"]
        (address,) = project.urls.items()
        assert address[0] == "model"
        assert address[1].startswith("http://127.0.0.1:")
        assert (told[-1].state, told[-1].text) == ("done", f"{PROJECT} runs: model at {address[1]}")
        other = written(tmp_path / "other", little.image())
        for act in (up, down):
            with pytest.raises(EngineError, match=r"from another folder, .*one; it is left alone"):
                act(other, project=PROJECT)
        assert up(folder, project=PROJECT) == project
    assert not containers(engine)
    project.stop()


@pytest.mark.docker
def test_what_does_not_become_healthy_says_so_and_is_gone(
    little: Little, engine: docker.DockerClient, tmp_path: Path
) -> None:
    told: list[Progress] = []
    with pytest.raises(EngineError, match=r"(?s)did not start mlnb-test-project.*unhealthy.*this is well"):
        up(written(tmp_path, little.image(), test="false"), project=PROJECT, watch=told.append)
    assert told[-1].state == "failed"
    assert not containers(engine)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PackagingError, match=r"holds no compose\.yaml"):
        up(tmp_path, project=PROJECT)
    folder = written(tmp_path, "nothing:1")
    shell = shutil.which("sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="There is no `docker` command here"):
        up(folder, project=PROJECT)
    (tmp_path / "docker").write_text(f"#!{shell}\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    with pytest.raises(EngineError, match="its plugin Compose is not"):
        up(folder, project=PROJECT)
    (tmp_path / "docker").write_text(f'#!{shell}\n[ "$1" = compose ] || {{ echo nobody there >&2; exit 1; }}\n')
    with pytest.raises(EngineError, match="Docker does not answer: nobody there"):
        down(folder, project=PROJECT)
