from __future__ import annotations

from pathlib import Path

from packages import DOCKERFILE, package
from snapshots import HOSTILE, check, text

from mlnb.packaging.package import Command, PackageFile
from mlnb.packaging.package_text import package_html, package_text

HEADLINE = "tumour:2 for Docker: 5 files in build/tumour · image tumour:2, about 412 MB"


def test_as_text() -> None:
    assert package_text(package()).splitlines() == [
        HEADLINE,
        "",
        "file               size",
        f"Dockerfile        {len(DOCKERFILE)} B",
        ".dockerignore      27 B",
        "model/ (2 files)  81 kB",
        "secrets/token      43 B",
        "",
        "build the image  $ docker build --tag tumour:2 build/tumour",
        "run it here      $ docker run --publish 127.0.0.1:8000:8000 tumour:2",
        "",
        "Docker does not answer here: the commands run where it does.",
    ]


def test_as_html() -> None:
    html = package_html(package())
    says = text(html)
    assert says.startswith(f"{HEADLINE} Dockerfile {len(DOCKERFILE)} B FROM python:3.11-slim AS build")
    assert "model/ 81 kB, 2 files secrets/token 43 B" in says
    assert says.endswith("where it does.")
    assert check(html).count("details") == 2  # those that a person reads


def test_without_commands_and_notes() -> None:
    bare = package(commands=(), notes=(), files=(PackageFile("Dockerfile", 4, "FROM"),), target="kubernetes")
    assert package_text(bare).endswith("file        size\nDockerfile   4 B")
    assert text(package_html(bare)).startswith("tumour:2 for Kubernetes: 1 file in build/tumour")


def test_what_others_write_is_escaped() -> None:
    file = PackageFile(HOSTILE, 1, HOSTILE)
    hostile = package(files=(file,), commands=(Command(HOSTILE, HOSTILE),), notes=(HOSTILE,), folder=Path(HOSTILE))
    check(package_html(hostile))
