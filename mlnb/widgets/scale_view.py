"""What the Scale tab knows beside the deployment's snapshot, and when a replica ended by what two snapshots say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mlnb.workspace import DeploymentSnapshot

__all__ = ["Ended", "ScaleView", "follow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Replicas that ended by themselves.

    Attributes
    ----------
    keys : tuple of int
        Their numbers; empty where that was not seen.
    at : datetime or None
        When it was seen, in UTC; None if it was before anybody looked.
    """

    keys: tuple[int, ...] = ()
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleView:
    """What was asked for, measured and seen.

    Attributes
    ----------
    wanted : int
        Replica processes; 0: the kernel answers.
    coming : int or None
        As many are on their way to be wanted; None if nothing is on its way.
    bounds : tuple of (int, int) or None
        That were asked for, where the replicas follow the load; None: a fixed number.
    switching : bool
        Whether it is on its way to follow the load.
    memory : mapping of int to int
        Bytes by process id, of those that were measured.
    ended : Ended or None
        The replicas that ended last.
    """

    wanted: int = 0
    coming: int | None = None
    bounds: tuple[int, int] | None = None
    switching: bool = False
    memory: Mapping[int, int] = field(default_factory=dict)
    ended: Ended | None = None

    @property
    def busy(self) -> bool:
        """Whether something that was asked for is on its way."""
        return self.switching or self.coming is not None


def follow(ended: Ended | None, before: DeploymentSnapshot | None, now: DeploymentSnapshot) -> Ended | None:
    """Return which replicas ended last, given what was known with the snapshot before.

    Scaling only adds or only removes replicas; where one went and another came, and there is trouble, one ended by
    itself.

    Parameters
    ----------
    ended : Ended or None
        As this returned it with ``before``.
    before : DeploymentSnapshot or None
        None at first.
    now : DeploymentSnapshot
    """
    if not now.trouble:
        return None
    if before is None:
        return Ended()
    gone, come = _keys(before) - _keys(now), _keys(now) - _keys(before)
    if now.trouble == before.trouble and not (gone and come):
        return ended
    answered = {replica.key for replica in before.replicas if replica.state in ("ready", "leaving")}
    return Ended(keys=tuple(sorted(gone & answered)), at=now.at)


def _keys(snapshot: DeploymentSnapshot) -> set[int]:
    return {replica.key for replica in snapshot.replicas}
