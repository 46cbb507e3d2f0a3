"""What a zygote imports for a model, so that its replicas start quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlnb.scaling.spawner import Spawner

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.registry import ModelVersion

__all__ = ["Zygotes", "modules_of"]


def modules_of(version: ModelVersion) -> frozenset[str]:
    """Return the modules that a model needs: its class's own, for an ensemble its members', and their packages."""
    own = [version.model_type.rpartition(".")[0], *version.environment.get("modules", ())]
    packages = version.environment.get("packages", {})
    return frozenset({*packages, *(module for module in own if module.partition(".")[0] in packages)})


class Zygotes:
    """The spawners there are: models that need the same modules share one."""

    def __init__(self) -> None:
        self._spawners: dict[frozenset[str], Spawner] = {}

    def start(self, modules: frozenset[str]) -> Spawner:
        """Return the spawner for these modules; a new one imports them meanwhile."""
        if modules not in self._spawners:
            preload = ["mlnb.scaling.worker", "mlnb.registry", *sorted(modules)]
            self._spawners[modules] = Spawner(preload=preload)
        return self._spawners[modules]

    def release(self, needed: Iterable[frozenset[str]] = ()) -> list[Spawner]:
        """Forget those that no model needs any more, and return them: closing one may take a second."""
        kept = set(needed)
        return [self._spawners.pop(modules) for modules in list(self._spawners) if modules not in kept]
