"""A model in the image that packaging makes of it: built once, run, asked, loaded, ended and unpacked."""

from __future__ import annotations

import getpass
import io
import json
import os
import re
import socket
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import docker
import pytest
from fitted import Fitted, fitted
from little_images import inside
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from waiting import free_port, wait_until

import mlnb
from mlnb.errors import EngineError, InvalidInputError
from mlnb.packaging import images
from mlnb.packaging.compose import ComposeConfig
from mlnb.packaging.compose_project import up
from mlnb.packaging.containers import Container, run
from mlnb.packaging.endpoint import Endpoint
from mlnb.packaging.package import Package
from mlnb.packaging.parity import check

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]  # the first one builds the image
_WHEELS = """
import csv, pathlib
records = pathlib.Path("/app/venv").glob("lib/*/site-packages/*.dist-info/RECORD")
print(sum(int(row[2] or 0) for record in records for row in csv.reader(record.open())))
"""


@pytest.fixture(scope="module")
def iris() -> Fitted:
    data = load_iris(as_frame=True)
    return fitted(LogisticRegression(max_iter=500), data.data, data.target_names[data.target])


@pytest.fixture(scope="module")
def package(engine: docker.DockerClient, iris: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Package]:
    folder = tmp_path_factory.mktemp("running")
    registry = mlnb.ModelRegistry(folder / "models")
    registry.register(iris.model, "mlnb-test-iris", example=iris.rows)
    made = mlnb.package("mlnb-test-iris", folder / "build", registry=registry)
    made.build()
    yield made
    images.remove(made.image)


@pytest.fixture(scope="module")
def container(package: Package, engine: docker.DockerClient) -> Iterator[Container]:
    with package.run() as running:
        yield running
        engine.containers.get(running.name).kill()  # nobody waits for its grace


def test_it_is_soon_ready_and_small(container: Container, package: Package, engine: docker.DockerClient) -> None:
    stats = engine.api.stats(container.name, stream=False, one_shot=True)
    worked = stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    image, base = (engine.images.get(tag).attrs["Size"] for tag in (package.image, "python:3.11-slim"))
    wheels = int(inside(engine, container.name, "python", "-c", _WHEELS)[1])
    assert min(container.started, worked) < 3.0  # on a machine with other work, what it took of a core
    assert container.memory < 160e6
    assert image <= 1.15 * (base + wheels), (image, base, wheels)


def test_it_answers_as_in_the_notebook_who_has_the_token(container: Container, package: Package, iris: Fitted) -> None:
    assert container.parity is not None
    assert container.parity.good, container.parity.wrong
    assert container.predict(iris.rows).tolist() == iris.predictions.tolist()
    assert container.predict(iris.rows.to_numpy()[:3]).tolist() == iris.predictions[:3].tolist()
    with pytest.raises(InvalidInputError, match="it answered 422"):
        container.predict([[1.0]])
    for token, status in ((container.token, 200), ("", 401), (f"{container.token}x", 401)):
        with Endpoint(container.url, token=token) as endpoint:
            asked = endpoint.post(f"/models/{package.subject.name}/predict", {"instances": iris.lists[:1]})
            assert asked.status == status
            assert endpoint.get("/readyz").status == 200
    refused = check(container.url, name=package.subject.name, golden=package.golden(), where="here", token="x")  # noqa: S106
    assert not refused.good
    assert "it answered 401" in refused.reason
    assert container.token not in container.logs()


def test_it_is_nobody_writes_nowhere_and_is_healthy(container: Container, engine: docker.DockerClient) -> None:
    wait_until(lambda: container.state == "healthy", seconds=60)
    name = container.name
    assert inside(engine, name, "id", "-u") == (0, "10001\n")
    for place in ("/app/x", "/app/model/x", "/etc/x", "/run/secrets/x"):
        assert "Read-only file system" in inside(engine, name, "touch", place)[1]
    assert inside(engine, name, "touch", "/tmp/x") == (0, "")  # noqa: S108 - the container's own
    _, status = inside(engine, name, "grep", "-E", "^(Cap(Eff|Bnd)|NoNewPrivs):", "/proc/self/status")
    assert re.findall(r"\w+$", status, re.MULTILINE) == ["0" * 16, "0" * 16, "1"]


def test_no_layer_knows_where_it_was_built(package: Package, engine: docker.DockerClient, tmp_path: Path) -> None:
    saved = tmp_path / "image.tar"
    with saved.open("wb") as file:
        file.writelines(engine.images.get(package.image).save())
    below = len(engine.images.get("python:3.11-slim").attrs["RootFS"]["Layers"])
    needles = [needle.encode() for needle in _secrets(package)]
    found: Counter[tuple[str, bytes]] = Counter()
    with tarfile.open(saved) as image:
        manifest = json.loads(_read(image, "manifest.json"))[0]
        config = _read(image, manifest["Config"])
        found.update(("config", needle) for needle in needles if needle in config)
        for layer in manifest["Layers"][below:]:
            with tarfile.open(fileobj=io.BytesIO(_read(image, layer))) as files:
                for member in files:
                    content = _read(files, member) if member.isfile() else b""
                    whole = content + f"\n{member.name} {member.linkname} {member.uname} {member.gname}".encode()
                    found.update((member.name, needle) for needle in needles if needle in whole)
    saved.unlink()
    assert not found


def _secrets(package: Package) -> set[str]:
    """Return what only this machine has: its names, folders and index, and the token."""
    indexes = [os.environ.get(name, "") for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")]
    known = {str(package.folder.parent), str(Path(mlnb.__file__).parent.parent), socket.gethostname(), package.token}
    known |= {getpass.getuser(), str(Path.home()), *(urlsplit(url).hostname or "" for url in indexes)}
    return {one for one in known if len(one) > 5} - {"localhost", "pypi.org"}  # shorter ones are in libraries, too


def _read(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def test_the_same_version_gives_the_same_image(package: Package, tmp_path: Path) -> None:
    registry = mlnb.ModelRegistry(package.folder.parent / "models")
    again = mlnb.package(package.subject.name, tmp_path / "again", registry=registry)
    assert again.build().id == package.build().id


def test_the_end_loses_no_request(package: Package, iris: Fitted, engine: docker.DockerClient) -> None:
    statuses: Counter[int] = Counter()
    last: list[type[OSError]] = []

    def ask(url: str, token: str) -> None:
        for _ in range(3000):
            try:
                with Endpoint(url, token=token) as endpoint:
                    statuses[endpoint.post("/predict", {"features": iris.lists[0]}).status] += 1
            except OSError as error:  # whose connection was not accepted any more
                last.append(type(error))
                return

    name = "mlnb-test-ending"
    with run(package.folder, package.image, name=name, options=package.wishes.options) as container:
        networks = engine.containers.get(name).attrs["NetworkSettings"]["Networks"]
        url = f"http://{networks['bridge']['IPAddress']}:8000"  # Docker's proxy accepts what nobody behind it does
        asking = [threading.Thread(target=ask, args=(url, container.token)) for _ in range(4)]
        for one in asking:
            one.start()
        wait_until(lambda: statuses[200] > 20)
        stopping = threading.Thread(target=container.stop)
        stopping.start()
        wait_until(lambda: _status(container.url, "/readyz") == 503)
        before = statuses[200]
        wait_until(lambda: statuses[200] > before)  # it still answers
        stopping.join(60)
    for one in asking:
        one.join(30)
    assert set(statuses) == {200}
    assert set(last) <= {ConnectionRefusedError, ConnectionResetError}  # the end may meet a handshake


def _status(url: str, path: str) -> int:
    with Endpoint(url) as endpoint:
        return endpoint.get(path).status


def test_too_little_memory_is_said(package: Package) -> None:
    with pytest.raises(EngineError, match="was killed: it needs more than the 48 MiB of memory it was given"):
        run(package.folder, package.image, name="mlnb-test-starved", memory=48 * 2**20)


def test_compose_runs_the_same(package: Package, engine: docker.DockerClient) -> None:
    config = ComposeConfig(subject=package.subject, image=package.image, port=free_port())
    for path, text in config.files().items():
        (package.folder / path).write_text(text)
    with up(package.folder, project="mlnb-test-running", build=False) as project:
        (url,) = project.urls.values()
        assert url == f"http://127.0.0.1:{config.port}"
        parity = check(url, name=package.subject.name, golden=package.golden(), where="compose", token=package.token)
        assert parity.good, parity
        engine.containers.get("mlnb-test-running-model-1").kill()
