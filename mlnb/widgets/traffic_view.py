"""What the Traffic tab knows beside the deployment's snapshot, and the words for how requests are shared out."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.monitoring.experiment import Experiment
    from mlnb.serving.snapshots import ShadowSnapshot
    from mlnb.workspace import DeploymentSnapshot

__all__ = ["TrafficView", "chart_of", "ended", "percent", "points", "roles", "shadow_of", "standing"]

_ALL = 100  # percent
_HEIGHT, _TOP = 270, 24  # pixels of the chart, and of the room above it


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficView:
    """What was read, and what is on its way.

    Attributes
    ----------
    experiment : Experiment or None
        How the versions of a split compare; None if the requests are not split.
    busy : bool
        Whether a version is being made ready.
    """

    experiment: Experiment | None = None
    busy: bool = False


def standing(snapshot: DeploymentSnapshot) -> str:
    """Say which versions answer, in a few words: ``v3 90 % · v4 10 % live``."""
    traffic = snapshot.traffic
    if traffic is None:
        return f"v{snapshot.version.number} live"
    words = f"v{traffic.live} live"
    if traffic.canary is not None:
        canary = traffic.canary.plan
        words += f", v{canary.version} canary at {canary.steps[traffic.canary.step]:g} %"
    elif len(traffic.shares) > 1:
        words = f"{' · '.join(f'v{number} {percent(share)}' for number, share in traffic.shares.items())} live"
    shadow = shadow_of(snapshot)
    return words if shadow is None else f"{words}, v{shadow.version} shadow"


def roles(snapshot: DeploymentSnapshot) -> dict[int, str]:
    """Return what each version does that does something, in a word, by number."""
    if snapshot.state == "stopped":
        return {}
    traffic, shadow = snapshot.traffic, shadow_of(snapshot)
    shares = {} if traffic is None else traffic.shares
    shadows = {} if shadow is None else {shadow.version: "shadow"}
    if traffic is not None and traffic.canary is not None:
        return shadows | {snapshot.version.number: "live", traffic.canary.plan.version: "canary"}
    if len(shares) > 1:
        return shadows | {number: percent(share) for number, share in shares.items()}
    return shadows | {snapshot.version.number: "live"}


def shadow_of(snapshot: DeploymentSnapshot) -> ShadowSnapshot | None:
    """Return the shadow, unless it is only there to compare a canary."""
    traffic = snapshot.traffic
    if traffic is None or traffic.shadow is None:
        return None
    compared = traffic.canary is not None and traffic.canary.plan.version == traffic.shadow.version
    return None if compared else traffic.shadow


def ended(snapshot: DeploymentSnapshot) -> str:
    """Say what ends when one version answers alone, "" if nothing does."""
    traffic, what = snapshot.traffic, []
    if traffic is not None and traffic.canary is not None:
        what = ["the canary has ended"]
    elif traffic is not None and len(traffic.shares) > 1:
        what = ["the split has ended"]
    return " and ".join(what + ([] if shadow_of(snapshot) is None else ["the shadow has ended"]))


def percent(share: float) -> str:
    """Write a share.

    Examples
    --------
    >>> percent(0.9), percent(2 / 3), percent(0.0004)
    ('90 %', '66.7 %', '< 0.1 %')
    """
    return "< 0.1 %" if 0 < share < 0.0005 else f"{round(_ALL * share, 1):g} %"  # noqa: PLR2004 - rounds to 0


def points(shares: Sequence[float]) -> list[int]:
    """Return shares in whole points that add up to 100, by the largest remainder.

    Examples
    --------
    >>> points([2 / 3, 1 / 3]), points([1 / 3, 1 / 3, 1 / 3])
    ([67, 33], [34, 33, 33])
    """
    exact = [_ALL * share for share in shares]
    whole = [floor(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda at: whole[at] - exact[at])
    for at in by_remainder[: _ALL - sum(whole)]:
        whole[at] += 1
    return whole


def chart_of(experiment: Experiment) -> Any:
    """Return the chart of an experiment, to stand below its verdict; None before there is anything to draw.

    Returns
    -------
    plotly.graph_objects.Figure or None
    """
    if not any(band.outcomes for band in experiment.bands()):
        return None
    figure = experiment.figure()
    figure.layout.annotations = figure.layout.annotations[:1]  # the other one is the verdict
    return figure.update_layout(height=_HEIGHT, margin={"t": _TOP})
