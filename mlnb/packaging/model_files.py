"""One version's files beside a Dockerfile: a registry folder that holds nothing else."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from mlnb.errors import PackagingError

if TYPE_CHECKING:
    from pathlib import Path

    from mlnb.registry import ModelRegistry, ModelVersion

__all__ = ["write_model"]

_FILE, _FOLDER = 0o644, 0o755  # whoever runs in the container reads them, and nobody there writes them


def write_model(registry: ModelRegistry, version: ModelVersion, folder: Path) -> None:
    """Write a registry with one version, and what it is made of, under the same numbers.

    A registry that was written there before is replaced at the end, in one go.

    Parameters
    ----------
    registry : ModelRegistry
    version : ModelVersion
    folder : Path

    Raises
    ------
    PackagingError
        If the folder holds something else.
    ModelNotFoundError, IntegrityError, UntrustedError, RegistryUnavailableError
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "registry.json").exists():
        raise PackagingError(f"{folder} holds files that are no registry's: give another folder, or empty it.")
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of one that was stopped
    try:
        new.mkdir(parents=True)
        registry.export(version, new)
        shutil.rmtree(new / "tmp", ignore_errors=True)
        for path in (new, *new.rglob("*")):
            path.chmod(_FOLDER if path.is_dir() else _FILE)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
