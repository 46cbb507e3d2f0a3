"""A Docker engine, and images that are built once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import docker
import pytest
from docker.errors import NotFound
from little_images import Little

from mlnb.errors import EngineError
from mlnb.packaging import images


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The engine that DOCKER_HOST names; without one the test fails where it must not, and is skipped elsewhere."""
    try:
        client = images.connect()
    except EngineError as error:
        if os.environ.get("MLNB_TEST_DOCKER") == "required":
            pytest.fail(f"MLNB_TEST_DOCKER=required, and: {error}")
        pytest.skip(str(error))
    yield client
    client.close()


@pytest.fixture(scope="session")
def little(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Little]:
    made = Little(tmp_path_factory.mktemp("a:little", numbered=False))
    yield made
    for tag in made.tags:
        images.remove(tag)


@pytest.fixture
def gone(engine: docker.DockerClient) -> Iterator[list[str]]:
    """Names of containers that are removed after the test, however it ends."""
    names: list[str] = []
    yield names
    for name in names:
        with suppress(NotFound):
            engine.containers.get(name).remove(force=True, v=True)
