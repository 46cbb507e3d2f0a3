"""A registry at one moment: all that its panel draws, read at once. What cannot be read is a value too."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mlnb import workspace
from mlnb.errors import MlnbError
from mlnb.registry import history
from mlnb.registry.proofs.proof import Proof

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlnb.registry import ModelRegistry, ModelVersion
    from mlnb.registry.card import ModelCard
    from mlnb.registry.diff import VersionDiff
    from mlnb.workspace import Deployment

__all__ = ["ModelState", "Problem", "RegistrySnapshot", "View", "or_problem", "read_card", "read_registry", "unread"]

SHOWN = 50
_TOGETHER = 8  # models read at once: a bucket answers each question after a while, and many at a time
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something could not be read, in one line."""

    message: str


@dataclass(frozen=True, slots=True)
class View:
    """What a person has chosen to look at.

    Attributes
    ----------
    model : str or None
        None for the one registered last.
    shown : int
        Of its versions, the newest so many.
    opened : int or None
        The version whose card is open.
    compared : tuple of two int, or None
        The older one first.
    """

    model: str | None = None
    shown: int = SHOWN
    opened: int | None = None
    compared: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """One model.

    Attributes
    ----------
    name : str
    versions : tuple of ModelVersion
        Newest first.
    aliases : mapping of str to int
        As the history has them, those of deleted versions too.
    proofs : mapping of int to Proof
        The last one of each version that has one.
    recorded : int or None
        The version that is live by the history.
    live : int or None
        The version that is live in this process.
    url : str
        Where that answers, "" if it does not.
    docs_url : str
    previous : int or None
        What rolling back would make live in this process.
    problem : str
        Why the model cannot be read, "" if it can.
    """

    name: str
    versions: tuple[ModelVersion, ...] = ()
    aliases: Mapping[str, int]
    proofs: Mapping[int, Proof]
    recorded: int | None = None
    live: int | None = None
    url: str = ""
    docs_url: str = ""
    previous: int | None = None
    problem: str = ""

    @property
    def newest(self) -> ModelVersion | None:
        """The newest version, None where none could be read."""
        return self.versions[0] if self.versions else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySnapshot:
    """A registry, and the part of it that is looked at.

    Attributes
    ----------
    url : str
    at : datetime
        When it was read, in UTC.
    trusted : bool
        Whether its models may run code when they are loaded.
    models : tuple of ModelState
        By name.
    view : View
        With the name of the model that is looked at, None if there is no model.
    card : ModelCard, Problem or None
        Of the version that is open.
    diff : VersionDiff, Problem or None
        Of the versions that are compared.
    problem : str
        Why the registry cannot be read, "" if it can.
    """

    url: str
    at: datetime
    trusted: bool = True
    models: tuple[ModelState, ...] = ()
    view: View
    card: ModelCard | Problem | None = None
    diff: VersionDiff | Problem | None = None
    problem: str = ""

    @property
    def chosen(self) -> ModelState | None:
        """The model that is looked at."""
        return next((model for model in self.models if model.name == self.view.model), None)


def or_problem(read: Callable[[], _T]) -> _T | Problem:
    """Return what ``read`` returns, or why it could not."""
    try:
        return read()
    except MlnbError as error:
        return Problem(error.message)
    except Exception as error:  # noqa: BLE001 - a store has errors of its own; the panel says all of them calmly
        _log.warning("A registry could not be read", exc_info=True)
        return Problem(f"{type(error).__name__}: {error}")


def read_registry(registry: ModelRegistry, view: View) -> RegistrySnapshot:
    """Read what a panel draws; nothing is raised, a problem is part of the answer."""
    read = or_problem(lambda: _read(registry, view))
    return unread(registry.url, view, read) if isinstance(read, Problem) else read


def unread(url: str, view: View, problem: Problem) -> RegistrySnapshot:
    """Return the snapshot of a registry that cannot be read."""
    return RegistrySnapshot(url=url, at=datetime.now(UTC), view=view, problem=problem.message)


def read_card(registry: ModelRegistry, reference: str) -> ModelCard | Problem:
    """Return the model card of a version with all that it shows read, or why it cannot be."""

    def read() -> ModelCard:
        card = registry.card(reference)
        card.version.signature  # noqa: B018 - read here, so that drawing the card reads nothing
        return card

    return or_problem(read)


def _read(registry: ModelRegistry, view: View) -> RegistrySnapshot:
    at = datetime.now(UTC)
    names = registry.names()
    here = {one.name: one for one in workspace.deployments() if one.registry.url == registry.url}
    with ThreadPoolExecutor(_TOGETHER) as readers:
        models = tuple(readers.map(lambda name: _read_model(registry, name, here.get(name)), names))
    name = view.model if view.model in names else _registered_last(models)
    if name != view.model:
        view = View(model=name)
    return RegistrySnapshot(
        url=registry.url, at=at, trusted=registry.trusted, models=models, view=view,
        card=None if view.opened is None else read_card(registry, f"{name}:{view.opened}"),
        diff=None if view.compared is None else _read_diff(registry, name, *view.compared),
    )  # fmt: skip


def _read_diff(registry: ModelRegistry, name: str | None, old: int, new: int) -> VersionDiff | Problem:
    return or_problem(lambda: registry.diff(f"{name}:{old}", f"{name}:{new}"))


def _read_model(registry: ModelRegistry, name: str, deployment: Deployment | None) -> ModelState:
    state = or_problem(partial(_state_of, registry, name, deployment))
    return ModelState(name=name, aliases={}, proofs={}, problem=state.message) if isinstance(state, Problem) else state


def _state_of(registry: ModelRegistry, name: str, deployment: Deployment | None) -> ModelState:
    events = registry.history(name)  # read once, for all that it says
    live = None if deployment is None else deployment.snapshot()
    return ModelState(
        name=name,
        versions=tuple(reversed(registry.versions(name))),
        aliases=history.aliases(events),
        proofs={number: Proof.from_json(stored) for number, stored in history.proofs(events).items()},
        recorded=history.live(events),
        live=None if live is None else live.version.number,
        url="" if live is None else live.url,
        docs_url="" if live is None else live.docs_url,
        previous=None if live is None else live.previous,
    )


def _registered_last(models: tuple[ModelState, ...]) -> str | None:
    newest = [model.versions[0] for model in models if model.versions]
    if newest:
        return max(newest, key=lambda version: version.created).name
    return models[0].name if models else None
