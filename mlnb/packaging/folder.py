"""The folder of a package: written as a whole or not at all, over nobody else's files."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlnb.errors import PackagingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["TOKEN", "read_token", "staged", "write_folder"]

TOKEN = "secrets/token"  # noqa: S105 - where it is, not what it is
_RECORD = ".mlnb-package.json"  # what was written, so that it can be written again


def staged() -> tempfile.TemporaryDirectory[str]:
    """Return a folder to write into first; removed at the end of its ``with``."""
    return tempfile.TemporaryDirectory(prefix="mlnb-package-")


def write_folder(source: Path, to: Path) -> list[str]:
    """Put all that is in ``source`` into ``to``, with a token unless there is one; return the paths, sorted.

    What an earlier package wrote there and this one does not is removed. Files of others stay.

    Raises
    ------
    PackagingError
        If a file of somebody else is in the way, or the folder cannot be written; then nothing is changed.
    """
    paths = sorted(_paths(source))
    try:
        before = _record(to)
        if to.exists() and not to.is_dir():
            raise PackagingError(f"{to} is a file; name a folder.")
        _check_foreign(to, paths, before)
        to.mkdir(parents=True, exist_ok=True)
        for path in paths:
            _place(source / path, to / path)
        for path in before.keys() - paths:
            _remove(to, path)
        _write_token(to)
        digests = {path: _digest(to / path) for path in paths}
        (to / _RECORD).write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n", "utf-8")
    except OSError as error:
        raise PackagingError(f"{to} cannot be written: {error.strerror or error}. Name another folder.") from error
    return paths


def read_token(folder: Path) -> str:
    """Return the token that a package's server asks for.

    Raises
    ------
    PackagingError
    """
    try:
        return (folder / TOKEN).read_text("utf-8").strip()
    except OSError as error:
        raise PackagingError(
            f"The package in {folder} has no {TOKEN} any more ({error.strerror}). Package the version again."
        ) from error


def _paths(folder: Path) -> Iterable[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _record(folder: Path) -> Mapping[str, str]:
    try:
        found = json.loads((folder / _RECORD).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_foreign(folder: Path, paths: Iterable[str], before: Mapping[str, str]) -> None:
    foreign = [path for path in paths if path not in before and (folder / path).exists()]
    if foreign:
        raise PackagingError(
            f"{foreign[0]} in {folder} is not a package's, and would be overwritten. Name another folder, or remove it."
        )


def _place(source: Path, target: Path) -> None:
    """Put a file in its place at once: who reads meanwhile sees the old one or the new one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    waiting = target.with_name(f".{target.name}.new")
    shutil.copyfile(source, waiting)
    waiting.replace(target)


def _remove(folder: Path, path: str) -> None:
    (folder / path).unlink(missing_ok=True)
    for parent in PurePosixPath(path).parents:
        if str(parent) == "." or any((folder / parent).iterdir()):
            return
        (folder / parent).rmdir()


def _write_token(folder: Path) -> None:
    """Make a token, unless there is one. Its folder is closed to others; the container's user reads the file."""
    place = folder / TOKEN
    place.parent.mkdir(mode=0o700, exist_ok=True)
    place.parent.chmod(0o700)
    if not place.exists():
        place.write_text(secrets.token_urlsafe(32) + "\n", "utf-8")
        place.chmod(0o644)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
