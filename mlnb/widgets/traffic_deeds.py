"""What the buttons of the Traffic tab do, and what they say about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mlnb.errors import MlnbError
from mlnb.widgets.traffic_view import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlnb.workspace import Deployment

__all__ = ["Manner", "add", "end_shadow", "promote", "roll_back", "share_out"]

Manner = Literal["split", "canary", "shadow"]

_WHY = "in the panel"
_NEW = 10  # percent of the requests that a version answers when it is added to a split


def add(deployment: Deployment, number: int, *, manner: Manner) -> str:
    """Let a version answer beside the live one."""
    return _ADDED[manner](deployment, number)


def share_out(deployment: Deployment, weights: Mapping[int, float]) -> str:
    """Give the versions of a split other shares, in percent; they keep the names they have in the experiment."""
    names = {arm.version: arm.name for arm in deployment.experiment().arms}
    if set(weights) != set(names):
        raise MlnbError("The split has changed meanwhile; move the sliders again.")
    traffic = deployment.traffic
    deployment.split(
        {_label(deployment, name, number): weights[number] for number, name in names.items()},
        key=None if traffic is None else traffic.key,
    )
    return f"Split: {', '.join(f'v{number} {weights[number]:g} %' for number in names)}."


def promote(deployment: Deployment, number: int) -> str:
    """Let one of the versions that answer answer all."""
    what = ended(deployment.snapshot())
    deployment.promote(number, reason=_WHY)
    return f"v{number} is promoted; {what}." if what else f"v{number} is promoted."


def end_shadow(deployment: Deployment) -> str:
    """Give the shadow no more requests."""
    deployment.shadow(None)
    return "The shadow has ended."


def roll_back(deployment: Deployment, to: int) -> str:
    """Let a version that was live before answer all, out of any state."""
    before, what = deployment.version.number, ended(deployment.snapshot())
    deployment.rollback(to=to, reason=_WHY)
    if what or to == before:
        return f"Rolled back to v{to}; {what}." if what else f"v{to} answers all requests."
    return f"v{to} is live; v{before} was before."


def _split(deployment: Deployment, number: int) -> str:
    live = deployment.version.number
    deployment.split({live: 100 - _NEW, number: _NEW})
    return f"v{number} answers {_NEW} % of the requests now, v{live} {100 - _NEW} %."


def _canary(deployment: Deployment, number: int) -> str:
    deployment.canary(number)
    return f"v{number} is a canary now; it steps up while its guards hold."


def _shadow(deployment: Deployment, number: int) -> str:
    deployment.shadow(number)
    return f"v{number} sees a copy of all requests now."


_ADDED: dict[Manner, Callable[[Deployment, int], str]] = {"split": _split, "canary": _canary, "shadow": _shadow}


def _label(deployment: Deployment, name: str, number: int) -> str | int:
    """Return what to call a version so that it keeps its name; an alias may mean another one by now."""
    from mlnb.workspace.traffic import resolve

    try:
        same = resolve(deployment.registry, deployment.name, name).number == number
    except MlnbError:
        same = False
    return name if same else number
