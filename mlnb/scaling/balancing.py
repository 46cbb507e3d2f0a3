"""Which of several replicas or endpoints takes the next request."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

from mlnb.errors import InvalidInputError, nearest

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Container, Hashable, Mapping, Sequence

__all__ = ["POLICIES", "Candidate", "Policy", "policy_named"]


class Candidate(Protocol):
    """What can be chosen."""

    @property
    def key(self) -> Hashable:
        """The same for the same replica from one choice to the next."""

    @property
    def in_flight(self) -> int:
        """Requests or batches it works on now."""

    @property
    def weight(self) -> float:
        """What it can take, against the others; above 0. Slow start scales it."""


C = TypeVar("C", bound=Candidate)


class Policy(Protocol):
    """A way to choose. It may remember its choices, so one is used by one thread at a time."""

    name: str

    def choose(self, candidates: Sequence[C], *, rng: random.Random) -> C:
        """Return one of ``candidates``, of which there is at least one."""
        ...


class _RoundRobin:
    """The one whose turn was longest ago, so that joining and leaving move nobody else's turn.

    Who weighs less than the heaviest lets, at random, that part of its turns pass: with equal weights there is no
    randomness, and a slow start is one here as well.
    """

    name = "round_robin"

    def __init__(self) -> None:
        self._turns: dict[Hashable, int] = {}
        self._turn = 0

    def choose(self, candidates: Sequence[C], *, rng: random.Random) -> C:
        _forget(self._turns, candidates)
        heaviest = max(candidate.weight for candidate in candidates)
        while True:
            self._turn += 1
            chosen = min(candidates, key=self._last_turn)
            self._turns[chosen.key] = self._turn
            if chosen.weight >= heaviest or rng.random() * heaviest < chosen.weight:
                return chosen

    def _last_turn(self, candidate: Candidate) -> int:
        return self._turns.get(candidate.key, 0)


class _Random:
    """Any, as often as it weighs."""

    name = "random"

    def choose(self, candidates: Sequence[C], *, rng: random.Random) -> C:
        return _drawn(candidates, rng)


class _Weighted:
    """Smooth weighted round robin, as nginx has it.

    Each choice adds to everyone's credit its weight; the largest credit is chosen and pays the sum of the weights. With
    whole weights of sum n, any n choices in a row give each exactly its weight, and spread out rather than in a row.
    https://github.com/nginx/nginx/commit/52327e0627f49dbda1e8db695e63a4b0af4448b1
    """

    name = "weighted"

    def __init__(self) -> None:
        self._credits: dict[Hashable, float] = {}

    def choose(self, candidates: Sequence[C], *, rng: random.Random) -> C:  # noqa: ARG002 - the Policy protocol
        credit = self._credits
        _forget(credit, candidates)
        for candidate in candidates:
            credit[candidate.key] = credit.get(candidate.key, 0.0) + candidate.weight
        chosen = max(candidates, key=lambda candidate: credit[candidate.key])
        credit[chosen.key] -= sum(candidate.weight for candidate in candidates)
        return chosen


class _LeastLoaded:
    """The least in flight for its weight; among equals, such as all when nothing is in flight, any by weight."""

    name = "least_loaded"

    def choose(self, candidates: Sequence[C], *, rng: random.Random) -> C:
        least = min(map(_load, candidates))
        return _drawn([candidate for candidate in candidates if _load(candidate) == least], rng)


class _PowerOfTwo:
    """Of two drawn by weight the less loaded; of equals the one drawn first.

    Nearly as even as the least loaded of all, and many balancers at once do not all rush to the same one.
    M. Mitzenmacher, "The power of two choices in randomized load balancing", IEEE Transactions on Parallel and
    Distributed Systems 12 (2001), https://doi.org/10.1109/71.963420
    """

    name = "power_of_two"

    def choose(self, candidates: Sequence[C], *, rng: random.Random) -> C:
        first = _drawn(candidates, rng)
        others = [candidate for candidate in candidates if candidate is not first]
        return min(first, _drawn(others, rng), key=_load) if others else first


_KINDS: tuple[Callable[[], Policy], ...] = (_RoundRobin, _Random, _Weighted, _LeastLoaded, _PowerOfTwo)
POLICIES: Mapping[str, Callable[[], Policy]] = MappingProxyType({kind().name: kind for kind in _KINDS})
"""What makes a fresh policy, by name."""


def policy_named(name: str) -> Policy:
    """Return a fresh policy.

    Raises
    ------
    InvalidInputError
        If there is none of that name, with those that there are.

    Examples
    --------
    >>> policy_named("power_of_two").name
    'power_of_two'
    """
    if name not in POLICIES:
        raise InvalidInputError(f"No load balancing policy {name!r}; {nearest(str(name), POLICIES)}.")
    return POLICIES[name]()


def _load(candidate: Candidate) -> float:
    return candidate.in_flight / candidate.weight


def _drawn(candidates: Sequence[C], rng: random.Random) -> C:
    if len(candidates) == 1:
        return candidates[0]
    return rng.choices(candidates, [candidate.weight for candidate in candidates])[0]


def _forget(remembered: dict[Hashable, float] | dict[Hashable, int], candidates: Sequence[Candidate]) -> None:
    """Drop who left, once they are many: who is only passed over for a moment keeps its place."""
    if len(remembered) > 2 * len(candidates) + 8:
        here: Container[Hashable] = {candidate.key for candidate in candidates}
        for key in [key for key in remembered if key not in here]:
            del remembered[key]
