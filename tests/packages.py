"""A package as the panel and the tables draw it, with nothing on disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlnb.packaging.bundle import Wishes
from mlnb.packaging.package import Command, Package, PackageFile
from mlnb.packaging.subject import PackagedModel

DOCKERFILE = """FROM python:3.11-slim AS build
COPY requirements.txt wheels/ ./
RUN uv pip sync --require-hashes requirements.txt

FROM python:3.11-slim
USER 10001
CMD ["mlnb", "serve", "tumour:2"]
"""


def package(**changes: Any) -> Package:
    """Return what was written of version 2 of a forest."""
    subject = PackagedModel(
        name="tumour", number=2, digest="ab" * 32, created=datetime(2026, 1, 1, tzinfo=UTC), description="first",
        model_type="RandomForestClassifier", python="3.11", requirements=("scikit-learn==1.9.0",), size=81_000,
    )  # fmt: skip
    written = Package(
        folder=Path("build/tumour"), target="docker", subject=subject, image="tumour:2",
        wishes=Wishes(),
        files=(
            PackageFile("Dockerfile", len(DOCKERFILE), DOCKERFILE),
            PackageFile(".dockerignore", 27, "*\n!model\n!requirements.txt\n"),
            PackageFile("model/blobs/sha256/ab/abab", 81_000),
            PackageFile("model/registry.json", 14),
            PackageFile("secrets/token", 43),
        ),
        expected_size=412_000_000,
        commands=(
            Command("docker build --tag tumour:2 build/tumour", "build the image"),
            Command("docker run --publish 127.0.0.1:8000:8000 tumour:2", "run it here"),
        ),
        notes=("Docker does not answer here: the commands run where it does.",),
    )  # fmt: skip
    return replace(written, **changes)
