"""The Dockerfile of a version."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import docker
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaged import packaged

from mlnb.errors import EngineError, InvalidInputError
from mlnb.packaging.docker import DockerConfig
from mlnb.packaging.images import build, remove
from mlnb.packaging.subject import ServeOptions

EVIL = 'a "quote" and \'another\', $HOME ${PATH} `id` \\ \\" \\\n\r\u2028USER root\nRUN id\x00\x85\x1b[31m# %'


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Read a Dockerfile as Docker does: comments go, then a backslash at the end of a line joins the next."""
    text = "".join(line for line in dockerfile.splitlines(keepends=True) if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\[ \t]*\n", "", text).split("\n")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def only(name: str, dockerfile: str) -> str:
    (found,) = [value for instruction, value in instructions(dockerfile) if instruction == name]
    return found


@given(st.text())
@example(EVIL)
def test_a_description_is_one_label_and_nothing_else(description: str) -> None:
    config = DockerConfig(packaged(description=description))
    plain = DockerConfig(packaged(description="words"))
    names = [name for name, _ in instructions(config.dockerfile)]
    assert names == [name for name, _ in instructions(plain.dockerfile)]
    assert all(line.isprintable() for line in config.dockerfile.split("\n"))
    label = only("LABEL", config.dockerfile)
    assert re.search(r"(?<!\\)(\\\\)*\$", label) is None  # no variable is put in
    words = shlex.split(label.replace(r"\$", "$"))  # quotes as a shell has them
    assert dict(word.split("=", 1) for word in words) == config.labels
    said = config.labels.get("org.opencontainers.image.description", "")
    assert letters(said) == letters(description)


def letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable() and not letter.isspace())


def test_the_same_version_gives_the_same_text() -> None:
    assert DockerConfig(packaged()).files() == DockerConfig(packaged()).files()
    assert DockerConfig(packaged()).files() != DockerConfig(packaged(number=4)).files()


def test_it_serves_as_nobody_and_without_a_shell() -> None:
    options = ServeOptions(port=9000, replicas=2, grace=2.5, accelerate=True)
    config = DockerConfig(packaged(commit="c0ffee"), options=options)
    served = json.loads(only("CMD", config.dockerfile))
    assert served == [*config.command]
    assert " ".join(served) == (
        "mlnb serve iris:3 --registry /app/model --host 0.0.0.0 --port 9000 --token-file /run/secrets/token "
        "--timeout 30 --grace 2.5 --replicas 2 --accelerate"
    )
    assert only("USER", config.dockerfile) == "10001:10001"
    assert only("STOPSIGNAL", config.dockerfile) == "SIGTERM"
    assert only("EXPOSE", config.dockerfile) == "9000"
    health = only("HEALTHCHECK", config.dockerfile)
    assert json.loads(health.partition("CMD ")[2]) == [*config.health]
    assert "9000" in config.health[-1]
    assert "/readyz" in config.health[-1]
    assert config.labels["org.opencontainers.image.revision"] == "c0ffee"


def test_a_version_of_a_bucket_is_not_copied() -> None:
    config = DockerConfig(packaged(registry="s3://team/models"))
    assert "s3://team/models" in config.command
    assert "/app/model" not in config.dockerfile
    assert "model" not in config.dockerignore


def test_only_what_is_copied_may_be_seen() -> None:
    config = DockerConfig(packaged())
    first, *seen = config.dockerignore.splitlines()
    assert first == "*"
    assert seen == ["!requirements.txt", "!uv.txt", "!wheels/*.whl", "!model/**"]


def test_a_system_package_that_slim_lacks_is_installed() -> None:
    assert "apt-get" not in DockerConfig(packaged()).dockerfile
    assert "libgomp1" in DockerConfig(packaged(requirements=("lightgbm==4.7.0",))).dockerfile


def test_the_base_is_that_of_the_notebook_or_given() -> None:
    bases = {
        value.split()[0]
        for name, value in instructions(DockerConfig(packaged(python="3.13")).dockerfile)
        if name == "FROM"
    }
    assert bases == {"python:3.13-slim"}
    pinned = f"example.org/python:3.11@sha256:{'0' * 64}"
    assert f"FROM {pinned} AS build\n" in DockerConfig(packaged(), base=pinned).dockerfile
    for other in ("python:3.12", "python:3.1-slim", "example.org:5000/a/python:3.12.4-slim"):
        with pytest.raises(InvalidInputError, match=r"has Python 3\.12?, and .* by Python 3\.11: give a base"):
            DockerConfig(packaged(), base=other)
    for wrong in ("python 3", "python\nRUN id", "-x", "python@sha256:0"):
        with pytest.raises(InvalidInputError, match="is no image: give a name"):
            DockerConfig(packaged(), base=wrong)


@pytest.mark.parametrize(
    "changes",
    [{}, {"requirements": ("lightgbm==4.7.0",), "registry": "s3://a/b"}, {"description": EVIL.replace("\\", "")}],
)
def test_hadolint_has_nothing_to_say(changes: dict[str, str], tmp_path: Path) -> None:
    # Without backslashes: that one before a quote stands for itself is something hadolint's parser does not know.
    path = tmp_path / "Dockerfile"
    path.write_text(DockerConfig(packaged(**changes)).dockerfile)
    linted = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), path], capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.docker
def test_a_base_with_another_python_is_noticed_first(engine: docker.DockerClient, tmp_path: Path) -> None:
    base = engine.images.get("python:3.11-slim")
    base.tag("mlnb-test-base", "1")
    config = DockerConfig(packaged(python="3.12"), base="mlnb-test-base:1")
    (tmp_path / "Dockerfile").write_text(config.dockerfile)
    try:
        with pytest.raises(EngineError, match=r"\n  This base has Python 3\.11, and the model .* 3\.12: give a"):
            build(tmp_path, "mlnb-test-other")
    finally:
        remove("mlnb-test-base:1")


@pytest.mark.docker
def test_the_index_of_this_machine_is_known_to_the_build_and_not_in_the_image(
    engine: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = "https://ada:lovelace@example.org/simple"
    kept = ("FROM", "ARG", "ENV", "LABEL")
    lines = [f"{name} {value}" for name, value in instructions(DockerConfig(packaged()).dockerfile) if name in kept]
    lines.insert(2, f'RUN test "$UV_DEFAULT_INDEX" = {index}')
    (tmp_path / "Dockerfile").write_text("\n".join([*lines, "RUN test -z $UV_DEFAULT_INDEX", ""]))
    for uv, pip in ((index, "https://example.org/other"), ("", index)):
        monkeypatch.setenv("UV_DEFAULT_INDEX", uv)
        monkeypatch.setenv("PIP_INDEX_URL", pip)
        build(tmp_path, "mlnb-test-index")
    image = engine.images.get("mlnb-test-index")
    known = json.dumps([image.history(), image.attrs])
    remove("mlnb-test-index")
    assert "dev.mlnb.model" in known
    assert "lovelace" not in known


@pytest.mark.docker
def test_docker_reads_the_labels_that_are_meant(engine: docker.DockerClient, tmp_path: Path) -> None:
    config = DockerConfig(packaged(description=EVIL))
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nLABEL {config.dockerfile.partition('LABEL ')[2]}")
    image, _ = engine.images.build(path=str(tmp_path), rm=True)
    try:
        assert image.labels == config.labels
    finally:
        engine.images.remove(str(image.id), force=True)
