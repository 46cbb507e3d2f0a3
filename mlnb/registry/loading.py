"""From the stored files of a version to its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlnb.errors import IntegrityError, MissingLibraryError, MlnbError
from mlnb.registry.ensembles.stored import EnsembleSerializer, is_ensemble
from mlnb.registry.proofs import environment
from mlnb.registry.serializers import serializer_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.registry.ensembles.members import Member
    from mlnb.registry.ensembles.stored import Pointer
    from mlnb.registry.storage.blobs import Blobs
    from mlnb.registry.version import ModelVersion

__all__ = ["rebuilt"]

_MAPPED = (
    "buffers/"  # the files of a model that are arrays; what is unpickled is read, so that nobody changes it meanwhile
)
_LARGE = 2**20  # bytes from which an array is mapped: each mapping keeps a file open


def rebuilt(version: ModelVersion, blobs: Blobs, *, mapped: bool, fetch: Callable[[Pointer], Member]) -> Any:
    """Return the model of a version that may be loaded.

    Parameters
    ----------
    version : ModelVersion
    blobs : Blobs
    mapped : bool
        Map large arrays instead of copying them.
    fetch : callable
        Loads a member of an ensemble.

    Raises
    ------
    IntegrityError
        If stored bytes are not those that were recorded, or make no model here.
    MissingLibraryError
    """
    try:
        serializer = EnsembleSerializer(fetch) if is_ensemble(version) else serializer_named(version.format)
        return serializer.load(_contents(version, blobs, mapped=mapped))
    except MlnbError:
        raise
    except ImportError as error:
        raise MissingLibraryError(f"{version} needs {error.name or 'a library'}: {error}. Install it.") from error
    except Exception as error:
        differing = environment.differences(version.environment, requirements={})
        raise IntegrityError(
            f"{version} cannot be rebuilt here: {type(error).__name__}: {error}. It was stored under Python "
            f"{version.python}{''.join(f'; {one}' for one in differing)}."
        ) from error


def _contents(version: ModelVersion, blobs: Blobs, *, mapped: bool) -> dict[str, memoryview]:
    """Return the model's files by path, their digests checked."""
    arrays = [file for file in version.files if mapped and file.path.startswith(_MAPPED) and file.size >= _LARGE]
    read = [file for file in version.files if file not in arrays]
    contents = blobs.get([file.digest for file in read])
    contents += blobs.get([file.digest for file in arrays], mapped=True) if arrays else []
    found = dict(zip((file.path for file in (*read, *arrays)), contents, strict=True))
    return {file.path: found[file.path] for file in version.files}
