"""What a registry has written down: its format, the record of each version, and the history of each model."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from mlnb.errors import IntegrityError, RegistryFormatError
from mlnb.registry.history import HistoryEvent
from mlnb.registry.lineage import author
from mlnb.registry.reference import is_valid_name
from mlnb.registry.storage.sealed import is_sealed, seal, unseal
from mlnb.registry.version import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlnb.registry.history import Action
    from mlnb.registry.signature import Signature
    from mlnb.registry.storage.store import Store

__all__ = ["Ledger"]

_FORMAT = 2
_FORMAT_KEY = "registry.json"
_RECORD, _LENGTH = re.compile(r"/[0-9]{8}\.json"), len("/00000001.json")


class Ledger:
    """The records of a store. Each is written once, sealed by its SHA-256, and never changes.

    Parameters
    ----------
    store : Store
    read_signature : callable
        From the digest of a stored signature to the signature.
    """

    def __init__(self, store: Store, *, read_signature: Callable[[str], Signature]) -> None:
        self._store = store
        self._read_signature = read_signature
        self._versions: dict[str, ModelVersion] = {}  # by key: read once
        self._events: dict[str, HistoryEvent] = {}

    def identity(self) -> str:
        """Return the random text that tells this registry from all others, "" if there is no registry yet.

        Raises
        ------
        RegistryFormatError
            If it is no registry, or one of another format.
        IntegrityError
        """
        where = self._store.locate(_FORMAT_KEY)
        try:
            content = bytes(self._store.read(_FORMAT_KEY))
            stored = unseal(content, where=where) if is_sealed(content) else orjson.loads(content)
        except FileNotFoundError:
            return ""
        except orjson.JSONDecodeError as error:
            raise IntegrityError(f"{where} is damaged: {error}. Restore the file.") from None
        if not isinstance(stored, dict) or not isinstance(stored.get("format"), int):
            raise RegistryFormatError(f"{where} is no registry's: it names no format.")
        if stored["format"] != _FORMAT:
            advice = "Update mlnb." if stored["format"] > _FORMAT else "It is from before mlnb's first release."
            raise RegistryFormatError(
                f"{self._store.url} has registry format {stored['format']}; this mlnb reads format {_FORMAT}. {advice}"
            )
        return str(unseal(content, where=where)["id"])

    def found(self, identity: str) -> bool:
        """Make the registry with this identity unless it is there; say whether this made it."""
        return self._store.create(_FORMAT_KEY, seal({"format": _FORMAT, "id": identity}))

    def names(self) -> list[str]:
        """Return the names of the models that have a version, sorted."""
        return [name for name in self._store.folders("models") if is_valid_name(name) and self._version_keys(name)]

    def versions(self, name: str) -> list[ModelVersion]:
        """Return the versions of a model, oldest first, without those that were deleted.

        Raises
        ------
        IntegrityError
            If a record is damaged.
        """
        return self._read(name, self._version_keys(name))

    def version(self, name: str, number: int) -> ModelVersion | None:
        """Return one version, None if there is none or it was deleted; other records may be damaged.

        Raises
        ------
        IntegrityError
        """
        key = _key(name, "versions", number)
        if self._store.exists(_key(name, "deleted", number)):
            return None
        try:
            return self._read(name, [key])[0]
        except FileNotFoundError:
            return None

    def add(self, version: ModelVersion) -> ModelVersion:
        """Write a version's record under the next number that is free; return it with that number."""
        version = replace(version, read_signature=self._read_signature)
        number = self._next_number(version.name, "versions")
        while True:
            numbered = replace(version, number=number, created=datetime.now(UTC))
            if self._store.create(_key(version.name, "versions", number), seal(numbered.to_json())):
                return numbered
            number += 1  # another writer took it

    def keep(self, version: ModelVersion) -> None:
        """Write a version's record under the number that it has, and when it was registered; nothing of who keeps it.

        A record that is there stays.
        """
        self._store.create(_key(version.name, "versions", version.number), seal(version.to_json()))
        event = HistoryEvent(self._next_number(version.name, "history"), "registered", version.number, version.created)
        self._store.create(_key(version.name, "history", event.number), seal(event.to_json()))

    def delete(self, version: ModelVersion) -> None:
        """Leave a tombstone for a version; its record stays, and so its number is not given again."""
        self._store.create(_key(version.name, "deleted", version.number), seal({"by": author()}))
        self.record(version, "deleted")

    def deleted(self, name: str) -> set[int]:
        """Return the numbers of the versions that were deleted."""
        return {_number_of(key) for key in self._keys(name, "deleted")}

    def history(self, name: str) -> list[HistoryEvent]:
        """Return what happened to a model, oldest first.

        Raises
        ------
        IntegrityError
        """
        keys = self._keys(name, "history")
        unread = [key for key in keys if key not in self._events]
        for key, content in zip(unread, self._store.read_all(unread), strict=True):
            stored = unseal(content, where=self._store.locate(key))
            self._events[key] = HistoryEvent.from_json(_number_of(key), stored)
        return [self._events[key] for key in keys]

    def record(self, version: ModelVersion, action: Action, **details: Any) -> HistoryEvent:
        """Append to the history of a model."""
        number = self._next_number(version.name, "history")
        while (event := self.append(version, action, number=number, **details)) is None:
            number += 1  # another writer took it
        return event

    def append(
        self,
        version: ModelVersion,
        action: Action,
        *,
        number: int,
        alias: str | None = None,
        proof: dict[str, Any] | None = None,
        reason: str = "",
        traffic: dict[str, Any] | None = None,
    ) -> HistoryEvent | None:
        """Write an event at one position of the history; return None if another writer took that."""
        event = HistoryEvent(number, action, version.number, datetime.now(UTC), alias, author(), proof, reason, traffic)
        created = self._store.create(_key(version.name, "history", number), seal(event.to_json()))
        return event if created else None

    def _read(self, name: str, keys: Sequence[str]) -> list[ModelVersion]:
        unread = [key for key in keys if key not in self._versions]
        for key, content in zip(unread, self._store.read_all(unread), strict=True):
            where = self._store.locate(key)
            version = ModelVersion.from_json(unseal(content, where=where), read_signature=self._read_signature)
            if (version.name, version.number) != (name, _number_of(key)):
                raise IntegrityError(f"{where} is the record of {version}: somebody moved or copied it. Move it away.")
            self._versions[key] = version
        return [self._versions[key] for key in keys]

    def _version_keys(self, name: str) -> Sequence[str]:
        keys, gone = self._keys(name, "versions"), self.deleted(name)
        return [key for key in keys if _number_of(key) not in gone] if gone else keys

    def _keys(self, name: str, kind: str) -> list[str]:
        """Return the keys of the records of a kind; what else a person or a program put beside them is none."""
        return [key for key in self._store.keys(f"models/{name}/{kind}") if _RECORD.fullmatch(key, len(key) - _LENGTH)]

    def _next_number(self, name: str, kind: str) -> int:
        keys = self._keys(name, kind)
        return _number_of(keys[-1]) + 1 if keys else 1


def _key(name: str, kind: str, number: int) -> str:
    return f"models/{name}/{kind}/{number:08d}.json"


def _number_of(key: str) -> int:
    return int(key.rsplit("/", 1)[1].removesuffix(".json"))
