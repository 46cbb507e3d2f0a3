"""What the sidebar shows of registries, and that one that does not answer troubles nobody else."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from notebook_servers import Kernel, NotebookServer
from sklearn.dummy import DummyRegressor
from waiting import free_port

import mlnb
from mlnb.labextension.registries import Registries
from mlnb.serving.discovery.live import LiveDeployment

MODEL = DummyRegressor().fit([[0.0], [1.0]], [1.0, 2.0])


def read(registries: Registries, *used: str, version: int | None = None) -> list[dict[str, Any]]:
    deployments = [
        LiveDeployment(process="1-1", name="iris", url="", port=1, pid=1, registry=url, version=version) for url in used
    ]
    return asyncio.run(registries.read(deployments))


@pytest.mark.kernel
@pytest.mark.filterwarnings("ignore:.*TCP without encryption.*")
def test_the_route_shows_what_is_registered_and_live(jupyter: NotebookServer, first: Kernel) -> None:
    first.run("registry = mlnb.ModelRegistry(); registry.set_alias('iris', 'champion', 1)")
    (registry,) = jupyter.get("mlnb/registry")["registries"]
    assert (registry["url"], registry["title"], registry["trouble"]) == (str(jupyter.models), "models", "")
    iris = next(model for model in registry["models"] if model["name"] == "iris")
    assert (iris["aliases"], iris["live"]) == ({"champion": 1}, [2])
    assert [(one["number"], one["aliases"], one["metrics"]) for one in iris["versions"]] == [
        (2, [], {"factor": 3}),
        (1, ["champion"], {"factor": 2}),
    ]
    assert {"created", "description", "model_type", "size"} <= iris["versions"][0].keys()


def test_the_default_registry_comes_first_and_each_once(home: Path, tmp_path: Path) -> None:
    other = mlnb.ModelRegistry(tmp_path / "other")
    other.register(MODEL, "iris", description="first")
    default, found = read(Registries(), other.url, str(home), other.url, version=1)
    assert (default["url"], default["models"], default["trouble"]) == (str(home), [], ""), "no folder yet: calm"
    (model,) = found["models"]
    assert (found["title"], model["name"], model["live"]) == ("other", "iris", [1])
    assert model["versions"][0]["description"] == "first"
    assert len(read(Registries(), *(str(tmp_path / f"r{number}") for number in range(20)))) == 10


def test_a_bucket_that_does_not_answer_is_trouble_and_delays_nobody(
    registry: mlnb.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(MODEL, "iris")
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        for name, value in credentials(f"http://127.0.0.1:{mute.getsockname()[1]}").items():
            monkeypatch.setenv(name, value)
        default, bucket = read(Registries(patience=1), "s3://mute/models")
    assert [model["name"] for model in default["models"]] == ["iris"]
    assert (bucket["title"], bucket["models"]) == ("mute/models", [])
    assert "has not answered for 1 s" in bucket["trouble"]


def test_a_bucket_that_refuses_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in credentials(f"http://127.0.0.1:{free_port()}").items():
        monkeypatch.setenv(name, value)
    _, bucket = read(Registries(patience=60), "s3://absent/models")
    assert "absent" in bucket["trouble"]
    assert "AWS_ENDPOINT_URL" in bucket["trouble"]


def test_what_is_damaged_is_said_and_the_rest_shown(registry: mlnb.ModelRegistry, home: Path) -> None:
    for name in ("iris", "wine"):
        registry.register(MODEL, name)
    registries = Registries()
    (whole,) = read(registries)
    assert [model["name"] for model in whole["models"]] == ["iris", "wine"]
    next((home / "models" / "wine" / "versions").iterdir()).write_text("{}")
    (damaged,) = read(Registries())
    assert [model["name"] for model in damaged["models"]] == ["iris"]
    assert "damaged" in damaged["trouble"]
    (home / "registry.json").write_text('{"format": 99}')
    (newer,) = read(Registries())
    assert (newer["models"], "format 99" in newer["trouble"]) == ([], True)


def test_a_registry_that_was_made_again_is_read_again(registry: mlnb.ModelRegistry, home: Path) -> None:
    async def before_and_after() -> tuple[str, str]:
        registries = Registries()
        shown: list[str] = []
        for description in ("old", "new"):
            shutil.rmtree(home, ignore_errors=True)
            mlnb.ModelRegistry(home).register(MODEL, "iris", description=description)
            (found,) = await registries.read([])
            while shown and found["models"][0]["versions"][0]["description"] == shown[0]:  # what was read serves 2 s
                await asyncio.sleep(0.1)
                (found,) = await registries.read([])
            shown.append(found["models"][0]["versions"][0]["description"])
        return shown[0], shown[1]

    assert asyncio.run(before_and_after()) == ("old", "new")


def test_what_is_live_and_was_registered_since_is_read_at_once(registry: mlnb.ModelRegistry, home: Path) -> None:
    async def numbers(registries: Registries, version: int) -> list[int]:
        live = LiveDeployment(process="1-1", name="iris", url="", port=1, pid=1, registry=str(home), version=version)
        (found,) = await registries.read([live])
        return [one["number"] for one in found["models"][0]["versions"]]

    async def look() -> None:
        registries = Registries()
        registry.register(MODEL, "iris", example=[[0.0]])
        assert await numbers(registries, 1) == [1]
        registry.register(DummyRegressor(strategy="median").fit([[0.0]], [1.0]), "iris", example=[[0.0]])
        assert await numbers(registries, 1) == [1]  # what was read serves for a moment
        assert await numbers(registries, 2) == [2, 1]

    asyncio.run(look())


def credentials(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "something", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }  # fmt: skip
