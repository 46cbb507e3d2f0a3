"""The endpoints of a load balancer: who they are, how they fare, and who takes the next request."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mlnb.errors import InvalidInputError, nearest
from mlnb.scaling.health import FIRST_SHARE, Health, available

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection

    from mlnb.scaling.balancing import Policy
    from mlnb.scaling.remote import RemoteReplica

__all__ = ["EndpointSnapshot", "Member", "Members", "State"]

State = Literal["in", "out", "coming back"]


@dataclass(slots=True, eq=False)
class Member:
    """One endpoint. All but the first two attributes are written by :class:`Members`, under its lock.

    Attributes
    ----------
    replica : RemoteReplica
    full_weight : float
        What the user gave it.
    weight : float
        The same, less while it comes back.
    in_flight : int
    requests, failures : int
        So far; a request that was tried here and then elsewhere counts at both.
    health : Health
    """

    replica: RemoteReplica
    full_weight: float
    weight: float = 1.0
    in_flight: int = 0
    requests: int = 0
    failures: int = 0
    health: Health = field(default_factory=lambda: Health(checked=True))

    @property
    def key(self) -> str:
        """Its URL."""
        return self.replica.url


@dataclass(frozen=True, slots=True)
class EndpointSnapshot:
    """One endpoint at a moment.

    Attributes
    ----------
    url : str
    state : {'in', 'out', 'coming back'}
    out_for : float
        Seconds until it may be tried again, 0 unless it is out.
    in_flight : int
        Requests.
    requests, failures : int
        So far.
    weight : float
    share : float
        The part of its weight that it is given, 0 to 1.
    """

    url: str
    state: State
    out_for: float
    in_flight: int
    requests: int
    failures: int
    weight: float
    share: float


class Members:
    """Endpoints that may come and go while requests are in flight. For any thread.

    Parameters
    ----------
    policy : Policy
    rng : random.Random
    clock : callable
        Seconds, of a clock that is never set back.
    """

    def __init__(self, policy: Policy, *, rng: random.Random, clock: Callable[[], float]) -> None:
        self.policy = policy
        self._rng = rng
        self._clock = clock
        self._members: dict[str, Member] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._members)

    def add(self, replica: RemoteReplica, *, weight: float) -> None:
        """Let an endpoint take its share from the next request on.

        Raises
        ------
        InvalidInputError
            If it is there already.
        """
        with self._changed:
            if replica.url in self._members:
                raise InvalidInputError(f"{replica.url} is balanced already; remove it first to change its weight.")
            self._members[replica.url] = Member(replica, weight)

    def remove(self, url: str) -> Member:
        """Give an endpoint no more requests; what it has in flight goes on.

        Raises
        ------
        InvalidInputError
            If it is not there.
        """
        with self._changed:
            if url not in self._members:
                raise InvalidInputError(f"{url} is not balanced here; {nearest(url, self._members)}.")
            return self._members.pop(url)

    def wait_until_idle(self, members: Collection[Member], *, timeout: float) -> bool:
        """Say whether ``members`` had nothing in flight within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(one.in_flight for one in members), timeout)

    def all(self) -> list[Member]:
        """Return those that are there."""
        with self._changed:
            return list(self._members.values())

    def take(self, *, besides: Collection[Member] = ()) -> Member | None:
        """Choose who takes a request, and count it as in flight there until :meth:`release`.

        None if there is nobody besides those that were tried.
        """
        with self._changed:
            now = self._clock()
            able = available((one for one in self._members.values() if one not in besides), now=now)
            for member in able:
                member.weight = member.full_weight * (member.health.share(now) or FIRST_SHARE)
            if not able:
                return None
            chosen = self.policy.choose(able, rng=self._rng)
            chosen.in_flight += 1
            chosen.requests += 1
            return chosen

    def release(self, member: Member) -> None:
        """Count a request as over."""
        with self._changed:
            member.in_flight -= 1
            if not member.in_flight:
                self._changed.notify_all()

    def failed(self, member: Member, *, refused: bool = False) -> None:
        """Count a failure."""
        with self._changed:
            member.failures += 1
            member.health.failed(self._clock(), refused=refused)

    def succeeded(self, member: Member) -> None:
        """Count a success, of a request or of a check."""
        with self._changed:
            member.health.succeeded(self._clock())

    def out(self) -> tuple[list[Member], list[Member]]:
        """Return those that are out, and of them those whose time is over, so that a check is to tell."""
        with self._changed:
            now = self._clock()
            out = [one for one in self._members.values() if not one.health.is_in(now)]
            return out, [one for one in out if one.health.is_due(now)]

    def snapshot(self) -> list[EndpointSnapshot]:
        """Return how each fares now."""
        with self._changed:
            now = self._clock()
            return [_snapshot(member, now) for member in self._members.values()]


def _snapshot(member: Member, now: float) -> EndpointSnapshot:
    share = member.health.share(now)
    return EndpointSnapshot(
        url=member.replica.url,
        state="out" if not share else "coming back" if share < 1 else "in",
        out_for=0.0 if share else max(0.0, member.health.out_until - now),
        in_flight=member.in_flight,
        requests=member.requests,
        failures=member.failures,
        weight=member.full_weight,
        share=share,
    )
