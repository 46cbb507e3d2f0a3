"""Models to bytes and back, one class per format."""

from __future__ import annotations

import io
import pickle
from typing import Any, ClassVar, Protocol

from mlnb.errors import NotServableError, RegistryFormatError

__all__ = ["SERIALIZERS", "CloudpickleSerializer", "JoblibSerializer", "ModelSerializer", "serialize", "serializer_for"]


class ModelSerializer(Protocol):
    """A format that models are stored in."""

    name: ClassVar[str]

    def dumps(self, model: object) -> bytes:
        """Return the model as bytes; raise what the library raises if it cannot."""

    def loads(self, content: bytes) -> Any:
        """Return the model. The caller has checked the digest: this may run code."""


class JoblibSerializer:
    """joblib: for models whose classes live in installed packages."""

    name: ClassVar[str] = "joblib"

    def dumps(self, model: object) -> bytes:
        """Return the model as an uncompressed joblib pickle."""
        import joblib

        buffer = io.BytesIO()
        joblib.dump(model, buffer)
        return buffer.getvalue()

    def loads(self, content: bytes) -> Any:
        """Unpickle the model."""
        import joblib

        return joblib.load(io.BytesIO(content))


class CloudpickleSerializer:
    """cloudpickle: carries by value what the notebook itself defines, classes and lambdas included."""

    name: ClassVar[str] = "cloudpickle"

    def dumps(self, model: object) -> bytes:
        """Return the model as a pickle that needs nothing of the notebook."""
        import cloudpickle

        return cloudpickle.dumps(model)  # type: ignore[no-any-return]  # untyped library

    def loads(self, content: bytes) -> Any:
        """Unpickle the model."""
        return pickle.loads(content)


_ALL: tuple[ModelSerializer, ...] = (JoblibSerializer(), CloudpickleSerializer())
SERIALIZERS = {serializer.name: serializer for serializer in _ALL}


def serializer_for(name: str) -> ModelSerializer:
    """Return the serializer of a recorded format.

    Raises
    ------
    RegistryFormatError
        If this mlnb does not know the format.
    """
    try:
        return SERIALIZERS[name]
    except KeyError:
        raise RegistryFormatError(
            f"This version is stored as {name!r}; this mlnb reads {', '.join(sorted(SERIALIZERS))}. Update mlnb."
        ) from None


def serialize(model: object) -> tuple[str, bytes]:
    """Return the format chosen for ``model`` and its bytes.

    joblib is tried first. It stores what ``__main__`` defines by reference, which no other process can load, so a
    pickle that names ``__main__`` is made again by value. Every reference to that module spells its name, so none is
    overlooked; a model that merely contains the text loses nothing.

    Raises
    ------
    NotServableError
        If the model cannot be pickled, with pickle's own reason.
    """
    try:
        content = SERIALIZERS["joblib"].dumps(model)
    except Exception:  # noqa: BLE001, S110 - a lambda, a local class, or a model's own refusal
        pass  # cloudpickle takes it, or says why not
    else:
        if b"__main__" not in content:
            return "joblib", content
    try:
        return "cloudpickle", SERIALIZERS["cloudpickle"].dumps(model)
    except Exception as error:
        raise NotServableError(
            f"This {type(model).__name__} cannot be stored, because part of it cannot be pickled: {error}. "
            "Remove that part (open files, locks and connections cannot be stored), or make it in `predict`."
        ) from error
