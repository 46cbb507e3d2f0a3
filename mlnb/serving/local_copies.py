"""Versions out of buckets on this machine's disk, where replica processes can map them."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

from mlnb.registry import ModelRegistry

if TYPE_CHECKING:
    from mlnb.registry import ModelVersion

__all__ = ["LocalCopies"]


class LocalCopies:
    """Versions out of buckets on this machine's disk, where processes can map them."""

    def __init__(self) -> None:
        self._folder = ""
        self._known: dict[tuple[str, str], str] = {}

    def of(self, registry: ModelRegistry, version: ModelVersion) -> tuple[str, str]:
        """Return a folder that has a version, and its reference there: the registry itself if it is a folder."""
        if "://" not in registry.url:
            return registry.url, str(version)
        self._folder = self._folder or tempfile.mkdtemp(prefix="mlnb-")
        key = registry.url, str(version)  # not its digest: the same files may have another signature
        if key not in self._known:
            local = ModelRegistry(self._folder)
            self._known[key] = str(registry.copy(str(version), local))
        return self._folder, self._known[key]

    def close(self) -> None:
        """Remove them. Again is harmless."""
        if not self._folder:
            return
        ModelRegistry(self._folder).distrust()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = ""
        self._known.clear()
