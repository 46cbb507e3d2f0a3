"""How large an image is going to be, from what its packages take where they are installed already: here."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING

from mlnb.packaging.wheels import own_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import PackagePath

    from mlnb.packaging.locking import Lock
    from mlnb.packaging.subject import PackagedModel

__all__ = ["expected_size"]

_SLIM, _OTHER = 130_000_000, 1_000_000_000  # bytes of Docker's official images, to two digits, as of Debian 12 and 13
_UNKNOWN = 3_000_000  # bytes of a package that is not installed here
_SOURCE = 2.2  # times its size is what a module takes with its bytecode
_TESTED = ("numpy", "pandas", "scipy", "sklearn")  # whose tests the Dockerfile leaves out


def expected_size(subject: PackagedModel, lock: Lock, *, base: str, base_size: int | None = None) -> int:
    """Return the bytes that an image is expected to take, unpacked, as ``docker images`` states them.

    Parameters
    ----------
    subject : PackagedModel
    lock : Lock
    base : str
        The image it is built on.
    base_size : int, optional
        Its bytes, for instance as the engine says. Default: what Docker's official images take.
    """
    packages = sum(_package_size(one.partition("==")[0]) for one in lock.pinned)
    model = 0 if subject.registry else subject.size
    return (base_size or _base_size(base)) + packages + _own_size() + model


def _base_size(base: str) -> int:
    return _SLIM if "-slim" in base else _OTHER


def _own_size() -> int:
    with zipfile.ZipFile(io.BytesIO(own_wheel().content)) as archive:
        return sum(_with_bytecode(entry.filename, entry.file_size) for entry in archive.infolist())


def _package_size(name: str) -> int:
    try:
        files = distribution(name).files
    except PackageNotFoundError:
        files = None
    return _UNKNOWN if files is None else sum(map(_file_size, _kept(files)))


def _kept(files: Iterable[PackagePath]) -> Iterable[PackagePath]:
    for path in files:
        compiled = "__pycache__" in path.parts  # whether pip did that here says nothing of the image
        if not compiled and not (path.parts[0] in _TESTED and "tests" in path.parts):
            yield path


def _file_size(path: PackagePath) -> int:
    with suppress(OSError):
        return _with_bytecode(path.name, path.locate().stat().st_size)  # type: ignore[attr-defined]  # a Path
    return 0


def _with_bytecode(name: str, size: int) -> int:
    return round(size * _SOURCE) if name.endswith(".py") else size
