"""Contents by their SHA-256: the same bytes are stored once, and other bytes than those recorded are refused."""

from __future__ import annotations

import hashlib
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlnb.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlnb.registry.serializers import Buffer
    from mlnb.registry.storage.store import Store

__all__ = ["Blobs", "Collected"]

_FOLDER = "blobs/sha256"
_WITHDRAWN = "withdrawn"
_DIGEST = re.compile("[0-9a-f]{64}")
_READING, _LOOKING = 3, 16  # threads: reading hashes too and so waits for a core


@dataclass(frozen=True, slots=True)
class Collected:
    """What collecting freed.

    Attributes
    ----------
    files : int
    size : int
        In bytes.
    """

    files: int
    size: int


class Blobs:
    """Content-addressed files of a store.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, contents: Sequence[Buffer]) -> list[str]:
        """Store each content once and return their digests in hexadecimal, in order."""
        return self._store.put_all(contents, key_of=_key)

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

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Return those digests whose files are not there."""
        with ThreadPoolExecutor(_LOOKING) as looking:  # a bucket is asked for each
            there = looking.map(lambda digest: self._store.exists(_key(digest)), digests)
            return [digest for digest, found in zip(digests, there, strict=True) if not found]

    def stored(self) -> list[str]:
        """Return the digests of all contents that are in use."""
        folders = [f"{_FOLDER}/{name}" for name in self._store.folders(_FOLDER)]
        names = [key.rsplit("/", 1)[1] for folder in folders for key in self._store.keys(folder)]
        return [name for name in names if _DIGEST.fullmatch(name)]

    def collect(self, needed: Callable[[], set[str]]) -> Collected:
        """Remove the contents that nobody needs.

        Each is first withdrawn, then ``needed`` is asked again, and what is needed by now is given back. A writer in
        turn looks, after its record is written, whether all its contents are there.

        Parameters
        ----------
        needed : callable
            Returns the digests that all records together need at that moment.
        """
        me = secrets.token_hex(8)
        self.give_back_all()
        unneeded = set(self.stored()) - needed()
        for digest in unneeded:
            self.withdraw(digest, by=me)
        needed_now = needed()
        for digest in unneeded & needed_now:
            self.give_back(digest, by=me)
        sizes = [self.destroy(digest, by=me) for digest in unneeded - needed_now]
        return Collected(len(sizes), sum(sizes))

    def give_back_all(self) -> None:
        """Undo what collectors that did not end have withdrawn; one that still runs loses no more than its work."""
        for key, digest in self._withdrawn():
            with suppress(FileNotFoundError):
                self._store.move(key, _key(digest))

    def withdraw(self, digest: str, *, by: str) -> None:
        """Take a content out of use, so that it can still be given back by the one who withdrew it."""
        with suppress(FileNotFoundError):  # another collector did
            self._store.move(_key(digest), _withdrawn_key(digest, by))

    def give_back(self, digest: str, *, by: str) -> None:
        """Undo :meth:`withdraw`."""
        with suppress(FileNotFoundError):  # another collector did
            self._store.move(_withdrawn_key(digest, by), _key(digest))

    def destroy(self, digest: str, *, by: str) -> int:
        """Remove a content that was withdrawn; return the bytes freed."""
        key = _withdrawn_key(digest, by)
        try:
            size = self._store.size(key)
        except FileNotFoundError:  # another collector gave it back
            return 0
        self._store.remove(key)
        return size

    def _withdrawn(self) -> list[tuple[str, str]]:
        """Return the key and digest of each content that is withdrawn."""
        found = [(key, key.rsplit("/", 1)[1].partition(".")[0]) for key in self._store.keys(_WITHDRAWN)]
        return [(key, digest) for key, digest in found if _DIGEST.fullmatch(digest)]

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
        with suppress(FileNotFoundError):
            return read(_key(digest))
        for key in [*(key for key, withdrawn in self._withdrawn() if withdrawn == digest), _key(digest)]:
            with suppress(FileNotFoundError):
                return read(key)
        return None


def _digest(content: Buffer) -> str:
    return hashlib.sha256(content).hexdigest()


def _withdrawn_key(digest: str, by: str) -> str:
    return f"{_WITHDRAWN}/{digest}.{by}"


def _key(digest: str) -> str:
    return f"{_FOLDER}/{digest[:2]}/{digest}"
