"""Images built, pushed and removed by a real engine; and machines without one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import ImageNotFound
from little_images import Little

from mlnb.errors import EngineError, MissingLibraryError, PackagingError
from mlnb.packaging import images
from mlnb.packaging.progress import Progress


@pytest.mark.docker
def test_the_same_folder_gives_the_same_image_step_by_step(little: Little, engine: docker.DockerClient) -> None:
    told: list[Progress] = []
    tag = little.image()
    built = images.build(little.folder, tag, build_args={"HOW": "well"}, watch=told.append)
    again = images.build(little.folder, tag, build_args={"HOW": "well"})
    assert built == again
    assert built.id == engine.images.get(tag).id
    assert built.size == engine.images.get(tag).attrs["Size"]
    assert re.match(r"step 1 of 5: FROM python", told[0].text)
    shares = [one.share for one in told if one.share is not None]
    assert shares == sorted(shares)
    assert (told[-1].state, told[-1].share) == ("done", 1.0)
    assert told[-1].text.startswith(f"{tag}, ")


@pytest.mark.docker
def test_the_step_that_fails_is_named_with_its_last_lines(engine: docker.DockerClient, tmp_path: Path) -> None:
    steps = "RUN for i in $(seq 40); do echo line $i; done; echo it is broken >&2; exit 3"
    (tmp_path / "Dockerfile").write_text(f"FROM python:3.11-slim\n{steps}\nRUN true\n")
    told: list[Progress] = []
    before = {image.id for image in engine.images.list(filters={"reference": "mlnb-test-broken"})}
    with pytest.raises(EngineError, match="step 2 of 3 failed, RUN for i in") as caught:
        images.build(tmp_path, "mlnb-test-broken", watch=told.append)
    assert "it is broken" in str(caught.value)
    assert "line 40" in str(caught.value)
    assert "line 12\n" not in str(caught.value)
    assert told[-1].state == "failed"
    assert {image.id for image in engine.images.list(filters={"reference": "mlnb-test-broken"})} == before


@pytest.mark.docker
def test_what_a_step_says_is_shown_in_whole_lines_and_not_too_often(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    says = r"printf '\033[?25l\033[1mDown' >&2; printf 'loading\r' >&2; sleep 0.1; printf '\033[0mlibrary ' >&2"
    (tmp_path / "Dockerfile").write_text(
        f"FROM python:3.11-slim\nRUN sleep 1.1; {says}; sleep 0.1; printf one >&2\n"
        "RUN for i in $(seq 99); do echo $i; done\n"
    )
    told: list[Progress] = []
    images.build(tmp_path, "mlnb-test-lines", watch=told.append)
    images.remove("mlnb-test-lines")
    assert [re.sub("(RUN|,) .*", "", one.text) for one in told] == [
        "step 1 of 3: FROM python:3.11-slim", "step 2 of 3: ", "step 2 of 3: library one", "step 3 of 3: ",
        "mlnb-test-lines",
    ]  # fmt: skip


@pytest.mark.docker
def test_a_base_that_is_nowhere_is_named(engine: docker.DockerClient, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM 127.0.0.1:9/nothing:1\n")
    with pytest.raises(EngineError, match=r"docker pull 127\.0\.0\.1:9/nothing:1`, or package with another: base="):
        images.build(tmp_path, "mlnb-test-baseless")


def test_a_folder_without_a_dockerfile_is_refused_before_all(tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match=r"holds no Dockerfile\. Write the package there first"):
        images.build(tmp_path, "mlnb-test")


class _Registry(BaseHTTPRequestHandler):
    """As much of a registry as a push needs; it wants a login for what is named private."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200)

    def do_HEAD(self) -> None:
        there = self.path.rpartition("/")[2] in self.server.blobs  # type: ignore[attr-defined]
        self._answer(200 if there else 404)

    def do_POST(self) -> None:
        self._read()
        self._answer(202, Location=f"{self.path}1")

    def do_PATCH(self) -> None:
        self._answer(202, Location=self.path, Range=f"0-{len(self._read()) - 1}")

    def do_PUT(self) -> None:
        body = self._read()
        if "/manifests/" in self.path:
            self.server.manifest = json.loads(body)  # type: ignore[attr-defined]
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.server.blobs.add(self.path.partition("?digest=")[2].replace("%3A", ":"))  # type: ignore[attr-defined]
        self._answer(201, Location=self.path, **{"Docker-Content-Digest": digest})

    def log_message(self, *_: Any) -> None:
        pass

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        read = b""
        while size := int(self.rfile.readline(), 16):
            read += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return read

    def _answer(self, status: int, **headers: str) -> None:
        wanted = f"Basic {base64.b64encode(b'ada:lovelace').decode()}"
        if self.server.private and self.headers.get("Authorization") != wanted:  # type: ignore[attr-defined]
            status, headers = 401, {"WWW-Authenticate": 'Basic realm="here"'}
        self.send_response(status)
        for name, value in {
            "Docker-Distribution-Api-Version": "registry/2.0",
            "Content-Length": "0",
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def registry(*, private: bool) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        server.private, server.blobs = private, set()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def tiny(engine: docker.DockerClient, folder: Path, tag: str) -> Iterator[str]:
    """An image of one file."""
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    built = images.build(folder, tag)
    assert built.size < 1000
    try:
        yield tag
    finally:
        images.remove(tag)
    images.remove(tag)  # which is not there any more
    with pytest.raises(ImageNotFound):
        engine.images.get(tag)


@pytest.mark.docker
def test_a_push_with_and_without_the_users_login(
    engine: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "image").mkdir()
    with registry(private=True) as server:
        host = f"127.0.0.1:{server.server_port}"
        with tiny(engine, tmp_path / "image", f"{host}/team/tiny:7") as tag:
            told: list[Progress] = []
            with pytest.raises(
                EngineError, match=f"Log in with `docker login {host}` as somebody who may push team/ti"
            ):
                images.push(tag, watch=told.append)
            assert told[-1].state == "failed"
            (tmp_path / "docker").mkdir()
            login = {"auths": {host: {"auth": base64.b64encode(b"ada:lovelace").decode()}}}
            (tmp_path / "docker" / "config.json").write_text(json.dumps(login))  # as docker login writes it
            digest = images.push(tag, watch=told.append)
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
            assert (told[-1].state, told[-1].share) == ("done", 1.0)
            assert server.manifest["config"]["digest"] == engine.images.get(tag).id  # type: ignore[attr-defined]


@pytest.mark.docker
def test_what_is_not_there_cannot_be_pushed(engine: docker.DockerClient) -> None:
    with pytest.raises(EngineError, match="does not exist"):
        images.push("127.0.0.1:9/mlnb-test-nothing:1")


@pytest.mark.parametrize("installed", [True, False])
def test_a_machine_without_an_engine(installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    if installed:
        (tmp_path / "docker").write_text("#!/bin/sh\n")
        (tmp_path / "docker").chmod(0o755)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    says = (
        r"Start it \(Docker Desktop, or sudo systemctl" if installed else "Docker is not installed here: https://docs"
    )
    with pytest.raises(EngineError, match=says):
        images.connect()
    with pytest.raises(EngineError, match=says):
        images.build(tmp_path, "mlnb-test")


def test_a_machine_whose_engine_is_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: Any) -> None:
        raise PermissionError(13, "Permission denied")  # root, as whom tests may run, is never refused

    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(EngineError, match="usermod -aG docker"):
        images.connect()


def test_a_machine_without_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker.errors", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'mlnb\[package\]'"):
        images.connect()


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "nonsense"])
def test_a_host_that_is_none(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineError, match=f"No Docker engine answers at {host}"):
        images.connect()
