"""What a registry holds: the records of its versions together with their contents."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import orjson

from mlnb.errors import IntegrityError
from mlnb.registry.ensembles.stored import MANIFEST, is_ensemble, pointers
from mlnb.registry.ledger import Ledger
from mlnb.registry.ownership import Ownership
from mlnb.registry.signature import Signature
from mlnb.registry.storage.blobs import Blobs
from mlnb.registry.storage.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mlnb.registry.ensembles.stored import Pointer
    from mlnb.registry.serializers import Buffer
    from mlnb.registry.storage.blobs import Collected
    from mlnb.registry.version import ModelVersion

__all__ = ["Holdings"]


class Holdings:
    """The versions at one place: records, contents, and whose they are.

    Parameters
    ----------
    place : str or Path
    added : callable
        Told of each version that was added.

    Attributes
    ----------
    url : str
    blobs : Blobs
    ledger : Ledger
        Another one when the registry was removed and made again.
    ownership : Ownership

    Raises
    ------
    RegistryFormatError, RegistryUnavailableError
    """

    def __init__(self, place: str | Path, *, added: Callable[[ModelVersion], None]) -> None:
        self._store = open_store(place)
        self._added = added
        self._signatures: dict[str, Signature] = {}  # by digest: read once
        self.url = self._store.url
        self.blobs = Blobs(self._store)
        self.ledger = Ledger(self._store, read_signature=self.read_signature)
        self.ownership = Ownership(self.url, self.ledger)

    def read_signature(self, digest: str) -> Signature:
        """Return the stored signature of that digest.

        Raises
        ------
        IntegrityError
        """
        if digest not in self._signatures:
            self._signatures[digest] = Signature.from_json(orjson.loads(self.blobs.get([digest])[0]))
        return self._signatures[digest]

    def found(self) -> None:
        """Make the registry unless it is there."""
        if self.ownership.changed():
            self.ledger = Ledger(self._store, read_signature=self.read_signature)
        self.ownership.claim()

    def add(self, version: ModelVersion, contents: Sequence[Buffer]) -> ModelVersion:
        """Give a version the next free number; see to it that its files are there, whoever collects meanwhile.

        Raises
        ------
        IntegrityError
            If a content is not what it was.
        """
        numbered = self.ledger.add(version)
        while self.blobs.missing(numbered.contents):
            if self.blobs.put(contents) != list(numbered.contents):
                raise IntegrityError(
                    f"{numbered} changed in memory while it was stored. Delete it, stop what changes it, try again."
                )
        self.ledger.record(numbered, "registered")
        self._added(numbered)
        return numbered

    def pointers(self, version: ModelVersion) -> list[Pointer]:
        """Return which versions a version points to; none unless it is an ensemble.

        Raises
        ------
        IntegrityError
        """
        if not is_ensemble(version):
            return []
        manifest = next(file.digest for file in version.files if file.path == MANIFEST)
        return pointers(self.blobs.get([manifest])[0])

    def pointing_at(self, version: ModelVersion) -> ModelVersion | None:
        """Return an ensemble that has a version as a member."""
        for name in self.ledger.names():
            with suppress(IntegrityError):  # what is damaged protects nothing
                for other in self.ledger.versions(name):
                    if any(str(pointer) == str(version) for pointer in self.pointers(other)):
                        return other
        return None

    def collect(self, needed: Callable[[], set[str]]) -> Collected:
        """Free the files that are not ``needed``, and what crashed writers left."""
        collected = self.blobs.collect(needed)
        self._store.sweep()
        return collected

    def needed(self) -> set[str]:
        """Return the digests of all contents of all versions."""
        versions = (version for name in self.ledger.names() for version in self.ledger.versions(name))
        return {digest for version in versions for digest in version.contents}
