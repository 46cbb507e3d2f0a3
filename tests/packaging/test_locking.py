"""Locks, resolved by the real uv from a folder of empty wheels."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from mlnb.errors import PackagingError
from mlnb.packaging.locking import lock
from mlnb.packaging.wheels import OwnWheel

Publish = Callable[..., Path]
EVERYWHERE = "py3-none-any"


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Puts an empty wheel on an index of the test's own (PEP 503), the only one that is asked; uv itself is there."""
    index = tmp_path / "index"
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)

    def put(name: str, number: str, *requires: str, tag: str = EVERYWHERE) -> Path:
        path = index / name / f"{name}-{number}-{tag}.whl"
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = f"{name}-{number}.dist-info"
        lines = [f"Name: {name}", f"Version: {number}", *(f"Requires-Dist: {one}" for one in requires)]
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{folder}/METADATA", "\n".join(["Metadata-Version: 2.1", *lines, ""]))
            archive.writestr(f"{folder}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            archive.writestr(f"{folder}/RECORD", "")
        links = [f'<a href="{one.name}">{one.name}</a>' for one in path.parent.glob("*.whl")]
        (path.parent / "index.html").write_text("<!DOCTYPE html><html><body>" + "".join(links))
        return path

    put("uv", version("uv"))
    return put


@pytest.fixture
def wheel(publish: Publish) -> OwnWheel:
    """An mlnb that needs a package, and with an extra another one."""
    path = publish("mlnb", "0.0.1", "joblib>=1", "buckets; extra == 's3'", "panels; extra == 'lab'")
    found = OwnWheel(path.name, path.read_bytes())
    path.unlink()  # it is on no index
    (path.parent / "index.html").unlink()
    return found


def test_all_is_pinned_and_hashed_and_nothing_of_this_machine_is_in_it(
    publish: Publish, wheel: OwnWheel, tmp_path: Path
) -> None:
    here = version("joblib")
    for number in ("1.0", here, "99.0"):
        publish("joblib", number)
    flower = publish("flower", "2.0", "petal")
    for name in ("petal", "buckets", "panels"):
        publish(name, "1.0")
    found = lock(["flower==2.0"], python="3.11", wheel=wheel, extras=("s3",))
    assert found.pinned == ("buckets==1.0", "flower==2.0", f"joblib=={here}", "petal==1.0")
    assert (
        f"flower==2.0 \\\n    --hash=sha256:{hashlib.sha256(flower.read_bytes()).hexdigest()}\n" in found.requirements
    )
    assert found.requirements.endswith(f"./wheels/{wheel.name} --hash=sha256:{wheel.digest}\n")
    assert found.installer.startswith(f"uv=={version('uv')} \\\n    --hash=sha256:")
    assert found.notes == ()
    assert str(tmp_path) not in found.requirements
    assert "#" not in found.requirements
    assert lock(["flower==2.0"], python="3.11", wheel=wheel, extras=("s3",)) == found


def test_a_local_version_becomes_the_public_one_and_that_is_said(publish: Publish, wheel: OwnWheel) -> None:
    publish("joblib", "1.0")
    publish("torch", "2.0")
    found = lock(["torch==2.0+cpu"], python="3.11", wheel=wheel)
    assert "torch==2.0" in found.pinned
    (note,) = found.notes
    assert note.startswith("torch==2.0+cpu is on no index that was asked: the image gets torch==2.0,")
    publish("torch", "2.0+cpu")
    found = lock(["torch==2.0+cpu"], python="3.11", wheel=wheel)
    assert ("torch==2.0+cpu" in found.pinned, found.notes) == (True, ())


def test_wheels_are_those_of_the_image_s_machine(publish: Publish, wheel: OwnWheel) -> None:
    publish("joblib", "1.0")
    publish("fast", "1.0", tag="cp311-cp311-manylinux_2_28_aarch64")
    assert "fast==1.0" in lock(["fast"], python="3.11", wheel=wheel, platform="linux/arm64").pinned
    for where in ({}, {"python": "3.12", "platform": "linux/arm64"}):
        with pytest.raises(PackagingError, match=r"fast==1\.0 cannot be installed for Python 3\.1[12] on linux/a"):
            lock(["fast==1.0"], **{"python": "3.11", "wheel": wheel} | where)  # type: ignore[arg-type]
    with pytest.raises(PackagingError, match="not for windows/amd64; there are: linux/amd64, linux/arm64"):
        lock([], python="3.11", wheel=wheel, platform="windows/amd64")


def test_what_cannot_be_met_is_named_with_what_to_do(publish: Publish, wheel: OwnWheel) -> None:
    publish("joblib", "0.9")
    publish("flower", "1.0")
    with pytest.raises(PackagingError, match=r"^mine==1 cannot be installed .*by_value=.*UV_INDEX=.*register"):
        lock(["mine==1", "flower==1.0"], python="3.11", wheel=wheel)
    with pytest.raises(PackagingError, match=r"^joblib==0\.9 cannot be installed .*mlnb.* depends on joblib>=1"):
        lock(["joblib==0.9"], python="3.11", wheel=wheel)


def test_an_index_that_does_not_answer(wheel: OwnWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(PackagingError, match=r"index does not answer: .*127\.0\.0\.1:9.* UV_DEFAULT_INDEX="):
        lock(["flower==1.0"], python="3.11", wheel=wheel)
