"""What the Package tab knows: what was written, what is on its way, and what runs elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.packaging.cluster_status import ClusterStatus
    from mlnb.packaging.difference import ManifestDiff
    from mlnb.packaging.package import Package, Target
    from mlnb.packaging.parity import Parity
    from mlnb.packaging.progress import Progress

__all__ = ["ContainerView", "PackageView", "Step", "Trouble", "ended", "told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """A container that runs.

    Attributes
    ----------
    name : str
    url : str
    ask : str
        The command that asks it for a prediction; its token is not in it, as this is part of a saved notebook.
    memory : int or None
        Bytes it used when it was ready, None if that is not known.
    parity : Parity or None
    """

    name: str
    url: str
    ask: str = ""
    memory: int | None = None
    parity: Parity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The last news of something that takes a while.

    Attributes
    ----------
    news : Progress
    since : float
        When it began, in seconds of a clock that only runs forward.
    seconds : float
        That it took, or has taken so far.
    """

    news: Progress
    since: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What went wrong.

    Attributes
    ----------
    title : str
        The kind of error.
    message : str
        What was given, what is accepted and what to do next.
    """

    title: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageView:
    """What the tab draws.

    Attributes
    ----------
    number : int
        The version that is live.
    target : str
        What was chosen.
    folder : str
        Where files go unless another folder is typed.
    busy : str
        The action that is on its way, "" if none is.
    package : Package or None
        What was written last.
    steps : sequence of Step
    container : ContainerView or None
        That runs.
    contexts : sequence of str
        Of the clusters that the user knows.
    unreachable : str
        Why none is known, "" if nobody can say.
    difference : ManifestDiff or None
        What a deployment would change, if that was asked.
    cluster : ClusterStatus or None
        What was deployed.
    deleting : bool
        Whether the cluster's deployment is about to be deleted, if that is confirmed.
    trouble : Trouble or None
        Of the last action.
    """

    number: int
    target: Target = "docker"
    folder: str = ""
    busy: str = ""
    package: Package | None = None
    steps: Sequence[Step] = ()
    container: ContainerView | None = None
    contexts: Sequence[str] = ()
    unreachable: str = ""
    difference: ManifestDiff | None = None
    cluster: ClusterStatus | None = None
    deleting: bool = False
    trouble: Trouble | None = None


def told(steps: Sequence[Step], news: Progress, *, now: float) -> tuple[Step, ...]:
    """Return the steps after one more piece of news: each has one line, and a new one ends those before it.

    One that was over and is on its way again begins anew.

    Parameters
    ----------
    steps : sequence of Step
    news : Progress
    now : float
        Seconds, of the same clock as before.
    """
    before = {step.news.step: step for step in steps}
    known = {name: ended(step, "done", now=now) for name, step in before.items()}
    again = news.state == "running" and news.step in before and before[news.step].news.state != "running"
    since = now if again or news.step not in before else before[news.step].since
    known[news.step] = Step(news=news, since=since, seconds=now - since)
    return tuple(known.values())


def ended(step: Step, state: Literal["done", "failed"], *, now: float) -> Step:
    """Return a step that is no longer on its way."""
    if step.news.state != "running":
        return step
    return replace(step, news=replace(step.news, state=state), seconds=now - step.since)
