"""Contents by their SHA-256: the same bytes are stored once, and other bytes than those recorded are refused."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from mlnb.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from mlnb.registry.serializers import Buffer
    from mlnb.registry.store import Store

__all__ = ["Blobs"]

_FOLDER = "blobs/sha256"
_WITHDRAWN = "withdrawn"
_DIGEST = re.compile("[0-9a-f]{64}")
_LARGE = 2**20  # bytes in all from which hashing beside writing is worth threads
_HASHING, _READING = 1, 3  # threads; more that hash take the core from those that write


class Blobs:
    """Content-addressed files of a store.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, contents: Sequence[Buffer]) -> list[str]:
        """Store each content once and return their digests in hexadecimal, in order.

        Large contents are hashed while they are written: a digest costs next to no time then.
        """
        if sum(memoryview(content).nbytes for content in contents) < _LARGE:
            digests = [_digest(content) for content in contents]
            new = [pair for pair in zip(digests, contents, strict=True) if not self._store.exists(_key(pair[0]))]
            self._store.create_all([(_key(digest), content) for digest, content in new])
            return digests
        with ThreadPoolExecutor(_HASHING) as hashing:
            pending = [hashing.submit(_digest, content) for content in contents]
            self._store.create_all(
                [(partial(_key_of, future), content) for future, content in zip(pending, contents, strict=True)]
            )
            return [future.result() for future in pending]

    def get(self, digests: Sequence[str], *, mapped: bool = False) -> list[memoryview]:
        """Return the contents with these digests, in order.

        Parameters
        ----------
        digests : sequence of str
        mapped : bool
            Share memory with other processes that map the same files, where the store can.

        Raises
        ------
        IntegrityError
            If a file is missing or its bytes have another digest. Nothing of it is used.
        """
        if len(digests) == 1:
            return [self._get(digests[0], mapped=mapped)]
        with ThreadPoolExecutor(_READING) as reading:
            return list(reading.map(lambda digest: self._get(digest, mapped=mapped), digests))

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Return those digests whose files are not there."""
        return [digest for digest in digests if not self._store.exists(_key(digest))]

    def stored(self) -> list[str]:
        """Return the digests of all contents, those that an interrupted :meth:`collect` withdrew included."""
        folders = [f"{_FOLDER}/{name}" for name in self._store.folders(_FOLDER)]
        names = [key.rsplit("/", 1)[1] for folder in (*folders, _WITHDRAWN) for key in self._store.keys(folder)]
        return [name for name in names if _DIGEST.fullmatch(name)]

    def withdraw(self, digest: str) -> None:
        """Take a content out of use, so that it can still be given back."""
        with suppress(FileNotFoundError):  # withdrawn before
            self._store.move(_key(digest), f"{_WITHDRAWN}/{digest}")

    def give_back(self, digest: str) -> None:
        """Undo :meth:`withdraw`."""
        with suppress(FileNotFoundError):  # another collector did
            self._store.move(f"{_WITHDRAWN}/{digest}", _key(digest))

    def destroy(self, digest: str) -> int:
        """Remove a content that was withdrawn; return the bytes freed."""
        try:
            size = self._store.size(f"{_WITHDRAWN}/{digest}")
        except FileNotFoundError:  # another collector did
            return 0
        self._store.remove(f"{_WITHDRAWN}/{digest}")
        return size

    def _get(self, digest: str, *, mapped: bool) -> memoryview:
        where = self._store.locate(_key(digest))
        content = self._find(digest, self._store.map if mapped else self._store.read)
        if content is None:
            raise IntegrityError(f"{where} is missing. Register the model again, or restore the file.")
        found = _digest(content)
        if found != digest:
            raise IntegrityError(
                f"{where} has the SHA-256 {found[:12]}…, not {digest[:12]}… as recorded: "
                "the file was changed or damaged, so it was not loaded. Register the model again, or restore the file."
            )
        return content

    def _find(self, digest: str, read: Callable[[str], memoryview]) -> memoryview | None:
        """Read a content, also one that is withdrawn at the moment, and may be given back between two looks."""
        for key in (_key(digest), f"{_WITHDRAWN}/{digest}", _key(digest)):
            with suppress(FileNotFoundError):
                return read(key)
        return None


def _digest(content: Buffer) -> str:
    return hashlib.sha256(content).hexdigest()


def _key_of(pending: Future[str]) -> str:
    return _key(pending.result())


def _key(digest: str) -> str:
    return f"{_FOLDER}/{digest[:2]}/{digest}"
