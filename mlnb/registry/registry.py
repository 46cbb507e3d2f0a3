"""Models at rest: numbered versions in a folder, with their history."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mlnb.errors import (
    IntegrityError,
    InvalidInputError,
    MissingLibraryError,
    ModelNotFoundError,
    NoPreviousVersionError,
    NotServableError,
    RegistryFormatError,
    nearest,
)
from mlnb.registry import history
from mlnb.registry.inference import infer_signature
from mlnb.registry.reference import ModelReference, is_valid_name, validate_name
from mlnb.registry.serializers import serialize, serializer_for
from mlnb.registry.signature import Signature
from mlnb.registry.store import FolderStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlnb.registry.history import Action, HistoryEvent

__all__ = ["ModelRegistry", "ModelVersion", "default_folder"]

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
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
    size : int
        Of the stored model, in bytes.
    format : str
        Name of the serializer.
    digest : str
        SHA-256 of the stored model, hexadecimal.
    python : str
        Version of the Python that stored it.
    signature : Signature
    """

    name: str
    number: int
    created: datetime
    metrics: dict[str, float]
    description: str
    model_type: str
    size: int
    format: str
    digest: str
    python: str
    signature: Signature

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return asdict(self) | {"created": self.created.isoformat(), "signature": self.signature.to_json()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ModelVersion:
        """Read the stored form."""
        created = datetime.fromisoformat(stored["created"])
        return cls(**(dict(stored) | {"created": created, "signature": Signature.from_json(stored["signature"])}))


def default_folder() -> Path:
    """Return ``$MLNB_HOME``, else the platform's data folder for mlnb."""
    import platformdirs

    home = os.environ.get("MLNB_HOME")
    return Path(home).expanduser() if home else platformdirs.user_data_path("mlnb")


class ModelRegistry:
    """Versioned models in a folder; no server to run.

    Parameters
    ----------
    folder : str or Path, optional
        Made when the first model is registered. Default: :func:`default_folder`.

    Raises
    ------
    RegistryFormatError
        If a newer mlnb wrote the folder.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> model = DummyClassifier().fit([[0.0], [1.0]], [1, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     registry = ModelRegistry(folder)
    ...     version = registry.register(model, "always", example=np.array([[0.5]]), metrics={"accuracy": 1.0})
    ...     str(version), registry.load("always").predict([[3.0]])
    ('always:1', array([1]))
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        # absolute, so that the registry stays where it is when the notebook changes its folder
        self.folder = (Path(folder).expanduser() if folder is not None else default_folder()).absolute()
        self._store = FolderStore(self.folder)
        self._versions: dict[str, ModelVersion] = {}  # by key; neither a version
        self._events: dict[str, HistoryEvent] = {}  # nor an event ever changes
        self._check_format()

    def __repr__(self) -> str:
        return f"ModelRegistry({str(self.folder)!r})"

    def register(
        self,
        model: object,
        name: str,
        *,
        example: Any = None,
        metrics: Mapping[str, float] | None = None,
        description: str = "",
    ) -> ModelVersion:
        """Store ``model`` as the next version of ``name``.

        Parameters
        ----------
        model : object
            Anything with ``predict``.
        name : str
        example : array of shape (n, features) or DataFrame, optional
            Names, types and ranges are read off it; its first row must be one the model predicts.
        metrics : mapping of str to float, optional
        description : str

        Raises
        ------
        InvalidNameError
        NotServableError
            If the model has no ``predict``, cannot be pickled, or cannot predict the example's first row.
        InvalidInputError
            If the metrics are not numbers by name.
        """
        validate_name(name)
        if isinstance(model, type) or not callable(getattr(model, "predict", None)):
            hint = "an instance, fitted, is needed" if isinstance(model, type) else "a model needs a method `predict`"
            raise NotServableError(f"{_type_name(model)} cannot be served: {hint}.")
        checked_metrics = _checked_metrics(metrics)
        signature = infer_signature(model, example)
        _check_fitted(model)
        _try_example(model, signature)
        kind, content = serialize(model)
        _try_loading(kind, content, model)
        self._create_format()
        digest = self._store.create_blob(content)
        number = self._last_number(name) + 1
        while True:
            version = ModelVersion(
                name=name, number=number, created=datetime.now(UTC), metrics=checked_metrics, description=description,
                model_type=_type_name(model), size=len(content), format=kind, digest=digest,
                python=platform.python_version(), signature=signature,
            )  # fmt: skip
            if self._store.create(_version_key(name, number), orjson.dumps(version.to_json())):
                break
            number += 1  # another writer took it
        self.record(version, "registered")
        return version

    def load(self, reference: str | ModelVersion) -> Any:
        """Return the model of a version, its digest checked before anything is unpickled.

        Parameters
        ----------
        reference : str or ModelVersion
            ``"iris"`` (the newest), ``"iris:3"`` or ``"iris@champion"``.

        Raises
        ------
        ModelNotFoundError
        IntegrityError
            If the stored bytes are not those that were recorded, or make no model here.
        MissingLibraryError
            If the model's class lives in a library that is not installed.
        """
        version = reference if isinstance(reference, ModelVersion) else self.version(reference)
        serializer = serializer_for(version.format)
        content = self._store.read_blob(version.digest)
        try:
            return serializer.loads(content)
        except ImportError as error:
            raise MissingLibraryError(f"{version} needs {error.name or 'a library'}: {error}. Install it.") from error
        except Exception as error:
            raise IntegrityError(
                f"{version} cannot be rebuilt here: {type(error).__name__}: {error}. It was stored under Python "
                f"{version.python}; the libraries it was made with may differ from those installed."
            ) from error

    def names(self) -> list[str]:
        """Return the names of all models."""
        return [name for name in self._store.folders("models") if is_valid_name(name) and self._last_number(name)]

    def versions(self, name: str) -> list[ModelVersion]:
        """Return the versions of a model, oldest first.

        Raises
        ------
        ModelNotFoundError
            With the nearest names there are.
        """
        keys = self._store.keys(f"models/{validate_name(name)}/versions")
        if not keys:
            raise ModelNotFoundError(f"There is no model {name!r} in {self.folder}; {nearest(name, self.names())}.")
        return [self._read_version(key) for key in keys]

    def version(self, reference: str) -> ModelVersion:
        """Return the version that a reference means now.

        Raises
        ------
        ModelNotFoundError
            With what there is.
        """
        wanted = ModelReference.parse(reference)
        versions = self.versions(wanted.name)
        number = wanted.number
        if wanted.alias is not None:
            known = self.aliases(wanted.name)
            if wanted.alias not in known:
                raise ModelNotFoundError(
                    f"{wanted.name!r} has no alias {wanted.alias!r}; {nearest(wanted.alias, known)}."
                )
            number = known[wanted.alias]
        if number is None:
            return versions[-1]
        for version in versions:
            if version.number == number:
                return version
        raise ModelNotFoundError(
            f"{wanted.name!r} has no version {number}; there are {_ranges([v.number for v in versions])}."
        )

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Let ``name@alias`` mean version ``number`` from now on.

        Raises
        ------
        InvalidNameError
        ModelNotFoundError
        """
        validate_name(alias, what="alias")
        self.record(self.version(f"{name}:{number}"), "aliased", alias=alias)

    def aliases(self, name: str) -> dict[str, int]:
        """Return the aliases of a model and the version numbers they mean."""
        return history.aliases(self.history(name))

    def history(self, name: str) -> list[HistoryEvent]:
        """Return what happened to a model, oldest first; empty for a name that is not there."""
        keys = self._store.keys(f"models/{validate_name(name)}/history")
        return [self._read_event(key) for key in keys]

    def record(self, version: ModelVersion, action: Action, *, alias: str | None = None) -> HistoryEvent:
        """Append to the history of ``version.name``."""
        keys = self._store.keys(f"models/{version.name}/history")
        number = _number_of(keys[-1]) + 1 if keys else 1
        while True:
            event = history.HistoryEvent(number, action, version.number, datetime.now(UTC), alias)
            key = f"models/{version.name}/history/{number:08d}.json"
            if self._store.create(key, orjson.dumps(event.to_json())):
                return event
            number += 1  # another writer took it

    def rollback(self, name: str, *, to: int | None = None) -> ModelVersion:
        """Record that the version live before, or version ``to``, is live again, and return it.

        Raises
        ------
        NoPreviousVersionError
            If no version was live before.
        ModelNotFoundError
            If there is no version ``to``.
        """
        version = self.rollback_target(name, to=to)
        self.record(version, "rolled back")
        return version

    def rollback_target(
        self, name: str, *, to: int | None = None, events: Iterable[HistoryEvent] | None = None
    ) -> ModelVersion:
        """Return what :meth:`rollback` would make live, without recording anything.

        Parameters
        ----------
        name : str
        to : int, optional
        events : iterable of HistoryEvent, optional
            The part of the history to go back through. Default: all of it.

        Raises
        ------
        NoPreviousVersionError, ModelNotFoundError
        """
        number = to if to is not None else history.previous(self.history(name) if events is None else events)
        if number is None:
            numbers = _ranges([version.number for version in self.versions(name)])
            raise NoPreviousVersionError(f"No version of {name!r} was live before this one; name one of {numbers}.")
        return self.version(f"{name}:{number}")

    def _last_number(self, name: str) -> int:
        keys = self._store.keys(f"models/{name}/versions")
        return _number_of(keys[-1]) if keys else 0

    def _read_version(self, key: str) -> ModelVersion:
        if key not in self._versions:
            self._versions[key] = ModelVersion.from_json(self._read_json(key))
        return self._versions[key]

    def _read_event(self, key: str) -> HistoryEvent:
        if key not in self._events:
            self._events[key] = history.HistoryEvent.from_json(_number_of(key), self._read_json(key))
        return self._events[key]

    def _read_json(self, key: str) -> Any:
        try:
            return orjson.loads(self._store.read(key))
        except orjson.JSONDecodeError as error:
            raise IntegrityError(f"{self.folder / key} is damaged: {error}. Restore the file.") from None

    def _check_format(self) -> None:
        try:
            stored = self._read_json("registry.json")
        except FileNotFoundError:
            return
        if not isinstance(stored, dict) or not isinstance(stored.get("format"), int):
            raise RegistryFormatError(f"{self.folder / 'registry.json'} is no registry's: it names no format.")
        if stored["format"] > _FORMAT:
            raise RegistryFormatError(
                f"{self.folder} has registry format {stored['format']}; this mlnb reads up to {_FORMAT}. Update mlnb."
            )

    def _create_format(self) -> None:
        self._store.create("registry.json", orjson.dumps({"format": _FORMAT}))
        self._check_format()


def _checked_metrics(metrics: Mapping[str, float] | None) -> dict[str, float]:
    given = {} if metrics is None else metrics
    form = 'Metrics are finite numbers by name, as in {"accuracy": 0.97}'
    if not hasattr(given, "items"):
        raise InvalidInputError(f"{form}; got {given!r:.80}.")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, Real) or not abs(value) < float("inf"):
            raise InvalidInputError(f"{form}; got {name!r}: {value!r:.80}.")
    return {name: float(value) for name, value in given.items()}


def _check_fitted(model: object) -> None:
    """Refuse scikit-learn's own estimators before they are fitted; of other classes nobody can tell."""
    if not type(model).__module__.startswith("sklearn."):
        return
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError:
        raise NotServableError(f"{_type_name(model)} is not fitted yet. Call its fit first.") from None


def _try_example(model: Any, signature: Signature) -> None:
    if signature.example is None:
        return
    row = signature.coerce([signature.example])
    try:
        shape = np.shape(model.predict(row))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        raise NotServableError(
            f"{_type_name(model)} cannot predict the example's first row: {reason}. "
            "Give an example like what it was fitted on."
        ) from error
    if shape[:1] != (1,):
        raise NotServableError(
            f"{_type_name(model)}.predict gave the shape {shape} for one row; needed is one answer for each row."
        )


def _try_loading(kind: str, content: bytes, model: object) -> None:
    try:
        serializer_for(kind).loads(content)
    except Exception as error:
        raise NotServableError(
            f"{_type_name(model)} can be stored but not loaded again: {type(error).__name__}: {error}. "
            "Its class must be one that pickle can rebuild."
        ) from error


def _type_name(model: object) -> str:
    kind = model if isinstance(model, type) else type(model)
    return (
        kind.__qualname__ if kind.__module__ in ("__main__", "builtins") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _version_key(name: str, number: int) -> str:
    return f"models/{name}/versions/{number:08d}.json"


def _number_of(key: str) -> int:
    return int(key.rsplit("/", 1)[1].removesuffix(".json"))


def _ranges(numbers: list[int]) -> str:
    """Shorten whole numbers to runs.

    Examples
    --------
    >>> _ranges([1, 2, 3, 5])
    '1-3, 5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)
