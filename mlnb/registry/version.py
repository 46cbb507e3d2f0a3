"""What a registry records of one version, once and for good."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlnb.registry.signature import Signature

__all__ = ["ModelVersion", "StoredFile"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a model.

    Attributes
    ----------
    path : str
        Its name, as the serializer gave it.
    digest : str
        SHA-256 of its bytes, hexadecimal.
    size : int
        In bytes.
    """

    path: str
    digest: str
    size: int


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelVersion:
    """One immutable version of a model.

    Attributes
    ----------
    name : str
    number : int
        From 1.
    created : datetime
        In UTC.
    metrics : dict of str to float
    description : str
    model_type : str
        The model's class, with its module.
    format : str
        Name of the serializer.
    files : tuple of StoredFile
    signature_digest : str
        SHA-256 of the stored signature.
    golden_digest : str or None
        SHA-256 of the example rows with the model's answers, None without an example.
    baseline_digest : str or None
        SHA-256 of what the example says of each column, which drift is measured against; None without an example, and
        for versions of before there was one.
    parameters : dict of str to str
        Hyperparameters, each as a short text.
    environment : dict
        ``python``, ``machine`` and ``packages``: the versions it was stored under, by import name.
    lineage : dict
        Where it comes from: ``user``, ``host``, and where known ``commit``, ``dirty``, ``notebook``, ``cell``,
        ``example`` (digest of the example rows) and ``copied_from``.
    """

    name: str
    number: int
    created: datetime
    metrics: dict[str, float]
    description: str
    model_type: str
    format: str
    files: tuple[StoredFile, ...]
    signature_digest: str
    golden_digest: str | None
    parameters: dict[str, str]
    environment: dict[str, Any]
    lineage: dict[str, Any]
    read_signature: Callable[[str], Signature] = field(repr=False, compare=False)
    baseline_digest: str | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"

    def __repr__(self) -> str:
        return f"<ModelVersion {self}, {self.model_type} as {self.format}, {self.created:%Y-%m-%d %H:%M:%S} UTC>"

    @property
    def size(self) -> int:
        """Bytes of the stored model."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """One SHA-256 for all of the model's files, hexadecimal: the same for the same model."""
        return hashlib.sha256("\n".join(f"{file.path} {file.digest}" for file in self.files).encode()).hexdigest()

    @property
    def python(self) -> str:
        """Version of the Python that stored it."""
        return str(self.environment["python"])

    @property
    def contents(self) -> tuple[str, ...]:
        """Digests of all that belongs to this version: the model's files, signature, golden rows and baseline."""
        others = (self.golden_digest, self.baseline_digest)
        return (*(file.digest for file in self.files), self.signature_digest, *filter(None, others))

    @cached_property
    def signature(self) -> Signature:
        """What the model takes and gives; read from the registry when first asked for.

        Raises
        ------
        IntegrityError
            If the stored signature is damaged.
        """
        return self.read_signature(self.signature_digest)

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process with the signature, which cannot read it from this registry."""
        return _restored, (self.to_json(), self.signature)

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        stored = {key: value for key, value in vars(self).items() if key not in ("signature", "read_signature")}
        return stored | {"created": self.created.isoformat(), "files": [asdict(file) for file in self.files]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], *, read_signature: Callable[[str], Signature]) -> ModelVersion:
        """Read the stored form."""
        created = datetime.fromisoformat(stored["created"])
        files = tuple(StoredFile(**file) for file in stored["files"])
        return cls(**(dict(stored) | {"created": created, "files": files}), read_signature=read_signature)


def _restored(stored: Mapping[str, Any], signature: Signature) -> ModelVersion:
    return ModelVersion.from_json(stored, read_signature=lambda _: signature)
