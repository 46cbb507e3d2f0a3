"""The folder of a package: over nobody else's files, through no link, and only as far as its own record goes."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlnb.errors import MlnbError, PackagingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["TOKEN", "check_current", "read_token", "staged", "write_folder"]

TOKEN = "secrets/token"  # noqa: S105 - where it is, not what it is
_IGNORE = "secrets/.gitignore"  # so that no commit takes the token
_RECORD = ".mlnb-package.json"  # what was written, so that it can be written again
_FORM = re.compile("[!-~]{16,4096}")  # of a token, as the server wants it (mlnb.serving.access)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What was written: the version, "" until it is whole, and which digests a file may have that is a package's."""

    reference: str = ""
    digest: str = ""
    files: Mapping[str, list[str]] = field(default_factory=dict)


@contextmanager
def staged(to: Path) -> Iterator[str]:
    """Give a folder to write into first, on the file system of ``to``; it is removed at the end of the ``with``.

    Raises
    ------
    PackagingError
        If there is no writing there, or no space left.
    """
    with _said(to, "written"):
        there = next(folder for folder in (to, *to.absolute().parents) if folder.is_dir())
        with tempfile.TemporaryDirectory(prefix=".mlnb-package-", dir=there, ignore_cleanup_errors=True) as name:
            yield name


def write_folder(source: Path, to: Path, *, reference: str, digest: str) -> list[str]:
    """Move all that is in ``source`` into ``to``, with a token unless there is one; return the paths, sorted.

    What an earlier package wrote there and this one does not is removed, unless it was changed since. Files of others
    stay.

    Parameters
    ----------
    source : Path
        From :func:`staged`: a file is moved into its place at once, so that nobody sees half of one.
    to : Path
    reference : str
        Of the version, for instance ``"iris:3"``.
    digest : str
        Of the version's files.

    Raises
    ------
    PackagingError
        If a file of somebody else, a changed one or a link is in the way; then nothing is changed. If the folder
        cannot be written; then the same again goes on from there.
    """
    paths = sorted(_paths(source))
    with _said(to, "written"):
        _check_ways(to, [*paths, TOKEN, _IGNORE, _RECORD])
        before = _read(to).files
        _stage_secrets(source, to, kept=TOKEN in before)
        new = {path: _digest(source / path) for path in _paths(source)}
        there = {path: _digest(to / path) for path in new if (to / path).exists()}
        _check_own(to, new, there, before)
        to.mkdir(parents=True, exist_ok=True)
        _write(source, to, _Record(files=_known(new, before)))
        (to / "secrets").mkdir(mode=0o700, exist_ok=True)
        (to / "secrets").chmod(0o700)
        for path in new.keys() - {path for path in there if there[path] == new[path]}:
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).replace(to / path)
        for path in before.keys() - new.keys():
            _remove(to, path, before[path])
        _write(source, to, _Record(reference=reference, digest=digest, files=_known(new, {})))
    return paths


def check_current(folder: Path, *, reference: str, digest: str) -> None:
    """Refuse to go on with a version that is not what the folder holds.

    Raises
    ------
    PackagingError
        If another one was packaged there since, or not to the end.
    """
    with _said(folder, "read"):
        record = _read(folder)
    if (record.reference, record.digest) != (reference, digest):
        found = f"another {reference}" if record.reference == reference else record.reference or "no whole package"
        raise PackagingError(f"{folder} holds {found} by now; package {reference} again.")


def read_token(folder: Path) -> str:
    """Return the token that a package's server asks for.

    Raises
    ------
    PackagingError
        If it is not there, or none that a server accepts.
    """
    try:
        token = (folder / TOKEN).read_bytes().decode("latin-1").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise PackagingError(
            f"The package in {folder} has no {TOKEN} any more ({error.strerror}). Package the version again."
        ) from error
    if not _FORM.fullmatch(token):
        raise PackagingError(
            f"{TOKEN} in {folder} is no token: it must be one line of 16 to 4096 ASCII letters, digits and signs. "
            "Remove it and package the version again, and one is made."
        )
    return token


@contextmanager
def _said(folder: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, MlnbError):
            raise
        raise PackagingError(f"{folder} cannot be {done}: {error.strerror or error}. Name another folder.") from error


def _paths(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _read(folder: Path) -> _Record:
    """Return what was written there. The record may be anybody's: a path in it that leads elsewhere is none."""
    try:
        found = json.loads((folder / _RECORD).read_text("utf-8"))
        files = {path: list(digests) for path, digests in found["files"].items() if _is_inside(Path(path))}
        return _Record(reference=str(found["reference"]), digest=str(found["digest"]), files=files)
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError, AttributeError):
        return _Record()


def _is_inside(path: Path) -> bool:
    return bool(path.parts) and not path.anchor and ".." not in path.parts


def _way(to: Path, path: str) -> list[Path]:
    """Return the folders below ``to`` that lead to a file, outermost first, and the file."""
    return [*(to / folder for folder in reversed(PurePosixPath(path).parents[:-1])), to / path]


def _check_ways(to: Path, paths: Iterable[str]) -> None:
    """Refuse a link, a file where a folder must be, and a folder where a file must be."""
    if to.exists() and not to.is_dir():
        raise PackagingError(f"{to} is a file; name a folder.")
    for path in paths:
        *folders, file = _way(to, path)
        for place in (*folders, file):
            wanted, is_wanted = ("file", Path.is_file) if place == file else ("folder", Path.is_dir)
            if place.is_symlink() or (place.exists() and not is_wanted(place)):
                kind = "a link, and is not followed" if place.is_symlink() else f"no {wanted}, and one must be there"
                raise PackagingError(f"{place} is {kind}. Name another folder, or move it.")


def _check_own(to: Path, new: Mapping[str, str], there: Mapping[str, str], before: Mapping[str, list[str]]) -> None:
    foreign = [path for path in there if path not in before]
    if TOKEN not in before and (to / "secrets").exists():
        foreign.append("secrets")
    if foreign:
        raise PackagingError(
            f"{foreign[0]} in {to} is not a package's, and would be overwritten. Name another folder, or remove it."
        )
    for path, digest in there.items():
        if digest not in (new[path], *before[path]):
            raise PackagingError(
                f"{path} in {to} was changed since it was packaged; move it away or name another folder."
            )


def _stage_secrets(source: Path, to: Path, *, kept: bool) -> None:
    """Write the token: the one that is there or a new one. The container's user reads it, in a closed folder."""
    (source / "secrets").mkdir()
    (source / _IGNORE).write_text("*\n", "utf-8")
    if kept and (to / TOKEN).exists():
        read_token(to)
        shutil.copyfile(to / TOKEN, source / TOKEN)
    else:
        (source / TOKEN).write_text(secrets.token_urlsafe(32) + "\n", "utf-8")
        (source / TOKEN).chmod(0o644)


def _known(new: Mapping[str, str], before: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the digests that each file may have; of a token not even that is written down."""
    known = {path: {*before.get(path, []), digest} for path, digest in new.items()}
    return {**before, **{path: sorted(digests) if path != TOKEN else [] for path, digests in known.items()}}


def _write(source: Path, to: Path, record: _Record) -> None:
    (source / _RECORD).write_text(json.dumps(asdict(record), indent=1, sort_keys=True) + "\n", "utf-8")
    (source / _RECORD).replace(to / _RECORD)


def _remove(to: Path, path: str, digests: list[str]) -> None:
    *folders, file = _way(to, path)
    linked = any(place.is_symlink() for place in (*folders, file))
    if linked or not file.is_file() or _digest(file) not in digests:
        return
    file.unlink()
    with suppress(OSError):  # there is something else in it
        for folder in reversed(folders):
            folder.rmdir()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
