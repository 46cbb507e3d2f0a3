"""A registry's files in a folder: one primitive, *create this key if it is not there*."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlnb.errors import IntegrityError, RegistryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FolderStore"]


class FolderStore:
    """Keys are relative paths with ``/``; a key once created never changes.

    Parameters
    ----------
    root : Path
        Made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, key: str, content: bytes) -> bool:
        """Write ``content`` under ``key`` unless the key is taken; say whether it was written.

        Raises
        ------
        RegistryUnavailableError
            If the system refuses; nothing is left behind.

        Notes
        -----
        The bytes are on disk before the key appears, and it appears whole or not at all: a hard link either makes the
        name or fails, on NFS too (link(2)).
        """
        target = self.root / key
        with _reachable(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _synced_temporary(target.parent, content) as temporary:
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    if target.is_file():
                        return False
                    raise
            _sync_folder(target.parent)
        return True

    def read(self, key: str) -> bytes:
        """Return the bytes under ``key``.

        Raises
        ------
        FileNotFoundError
            If there is no such key.
        """
        with _reachable(self.root / key):
            return (self.root / key).read_bytes()

    def keys(self, prefix: str) -> list[str]:
        """Return the keys directly under the folder ``prefix``, sorted."""
        return [f"{prefix}/{name}" for name in self._entries(prefix)]

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly under ``prefix``, sorted."""
        return [name for name in self._entries(prefix) if (self.root / prefix / name).is_dir()]

    def create_blob(self, content: bytes) -> str:
        """Store ``content`` once, under its SHA-256, and return the digest in hexadecimal."""
        digest = hashlib.sha256(content).hexdigest()
        if not (self.root / _blob_key(digest)).exists():
            self.create(_blob_key(digest), content)
        return digest

    def read_blob(self, digest: str) -> bytes:
        """Return the bytes whose SHA-256 is ``digest``.

        Raises
        ------
        IntegrityError
            If the file is missing or its bytes have another digest. Nothing of it is used.
        """
        key = _blob_key(digest)
        try:
            content = self.read(key)
        except FileNotFoundError:
            raise IntegrityError(f"{self.root / key} is missing. Register the model again.") from None
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise IntegrityError(
                f"{self.root / key} has the SHA-256 {found[:12]}…, not {digest[:12]}… as recorded: "
                "the file was changed or damaged, so it was not loaded. Register the model again, or restore the file."
            )
        return content

    def _entries(self, prefix: str) -> list[str]:
        folder = self.root / prefix
        try:
            with _reachable(folder):
                return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:
            return []


def _blob_key(digest: str) -> str:
    return f"blobs/sha256/{digest[:2]}/{digest}"


@contextmanager
def _reachable(path: Path) -> Iterator[None]:
    """Turn what the system says of ``path`` into an error that names it, but for a file that is not there."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RegistryUnavailableError(
            f"{path}: {error.strerror or error}. Give the registry a folder that you may write to, on a disk with room."
        ) from error


@contextmanager
def _synced_temporary(folder: Path, content: bytes) -> Iterator[Path]:
    path = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        with path.open("xb") as file:  # not tempfile: the umask decides who may read a shared registry
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
