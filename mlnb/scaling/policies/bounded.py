"""A policy within what its user allows and what its machine can hold: the last word on how many replicas there are."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from operator import index
from typing import TYPE_CHECKING

from mlnb.durations import duration_text
from mlnb.scaling.policies.decision import ScalingDecision

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.scaling.autoscale import Autoscale
    from mlnb.scaling.policies.decision import ScalingSample

__all__ = ["BoundedController"]

_Settled = tuple[int, str, str]  # how many, by which rule, for what reason
_CRASH_LOOP = 3  # replicas that end by themselves within a minute


class BoundedController:
    """Steps a policy, and keeps what it decides within bounds.

    A sample that comes late changes nothing, and a policy that fails holds what there is. With a minimum of 0, requests
    say whether there are none or one. Nothing goes while a replica starts or leaves, and none is added while replicas
    keep ending by themselves. Above all that stand minimum and maximum, and above these what the machine can hold; but
    while a replica starts or leaves, what it can hold keeps only more from coming.

    Parameters
    ----------
    autoscale : Autoscale

    Examples
    --------
    >>> from mlnb.scaling.autoscale import Autoscale
    >>> from mlnb.scaling.policies.decision import ScalingSample
    >>> controller = BoundedController(Autoscale.of(2, 4))
    >>> decision = controller.step(ScalingSample(at=0.5, wall=0.5, interval=0.5, desired=1, ready=1, utilisation=0.7))
    >>> decision.desired, decision.rule, decision.reason
    (2, 'minimum', 'utilisation 70% of 70%: 1 wanted, at least 2')
    """

    def __init__(self, autoscale: Autoscale) -> None:
        self._autoscale = autoscale
        self._controller = autoscale.policy.controller()
        self._at = -inf  # of the newest sample
        self._last: ScalingDecision | None = None
        self._asked = inf  # when there was a request last

    def bounds(self, wall: float) -> tuple[int, int]:
        """Return the least and the most replicas at a moment, in seconds since the epoch, by the schedules too."""
        least, most, _ = self._bounds(wall)
        return least, most

    def step(self, sample: ScalingSample) -> ScalingDecision:
        """Decide.

        Parameters
        ----------
        sample : ScalingSample
            One that is not newer than the last one changes nothing.
        """
        if not self._at < sample.at < inf:
            return self._late(sample)
        quiet = self._quiet_for(sample)
        self._at = sample.at
        decision = self._last = self._allowed(sample, self._decided(sample), quiet)
        return decision

    def take_over(self, before: BoundedController, samples: Iterable[ScalingSample]) -> None:
        """Go on from where another one ends: with what its policy knows where that is the same.

        Parameters
        ----------
        before : BoundedController
            Steps no more.
        samples : iterable of ScalingSample
            That it saw, the newest last, to show to another policy.
        """
        if before._autoscale.policy == self._autoscale.policy:
            self._controller, self._at = before._controller, before._at
        else:
            for sample in samples:
                self.step(sample)
        self._asked = before._asked

    def _bounds(self, wall: float) -> tuple[int, int, str]:
        held = self._autoscale
        least, most, words = held.least, held.most, ""
        for schedule in held.schedules:
            if schedule.holds(wall):
                least, words = schedule.least, f" ({schedule.words})"
                most = max(least, held.most if schedule.most is None else schedule.most)
        return least, most, words

    def _late(self, sample: ScalingSample) -> ScalingDecision:
        timed = self._at - sample.at < inf
        age = f"{self._at - sample.at:.1f} s older than the last one" if timed else "without a time"
        reason = f"a sample {age} changes nothing"
        if self._last is None:
            return self._allowed(sample, _held(sample, reason, sample.desired), 0.0)
        return replace(self._last, sample=sample, rule="hold", reason=reason)

    def _quiet_for(self, sample: ScalingSample) -> float:
        if self._asked == inf or _asked(sample) or not (sample.requests == 0 or sample.in_flight == 0):
            self._asked = sample.at  # so it is where nothing was measured
        return sample.at - self._asked

    def _decided(self, sample: ScalingSample) -> ScalingDecision:
        try:
            decision = self._controller.step(sample)
            desired = index(decision.desired)
        except Exception as error:  # noqa: BLE001 - policies may be anybody's; one that fails must not end the scaling
            return _held(sample, f"the policy failed, {type(error).__name__}: {error!s:.200}", sample.desired)
        return decision if desired is decision.desired else replace(decision, desired=desired)

    def _allowed(self, sample: ScalingSample, decision: ScalingDecision, quiet: float) -> ScalingDecision:
        least, most, words = self._bounds(sample.wall)
        settled = decision.desired, decision.rule, decision.reason
        if least == 0:
            settled = self._around_none(sample, settled, quiet)
        settled = _unhurried(sample, settled)
        settled = _between(settled, least, most, words)
        desired, rule, reason = _held_by_machine(sample, settled, least)
        if desired == decision.desired and rule == decision.rule and reason == decision.reason:
            return decision
        return ScalingDecision(
            sample=sample, metric=decision.metric, value=decision.value, target=decision.target, wanted=decision.wanted,
            desired=desired, rule=rule, window=decision.window, reason=reason,
        )  # fmt: skip

    def _around_none(self, sample: ScalingSample, settled: _Settled, quiet: float) -> _Settled:
        desired, now, idle = settled[0], sample.desired, self._autoscale.idle
        if now == 0:
            return (1, "wake-up", "a request came: 0 to 1") if _asked(sample) else (0, "idle", "no request: stays at 0")
        if quiet >= idle and not _asked(sample):  # whatever the policy still remembers
            return 0, "idle", f"no request for {duration_text(idle)}: {now} to 0"
        if desired < 1:
            return 1, "idle", f"{desired} wanted, the last one stays until no request came for {duration_text(idle)}"
        return settled


def _asked(sample: ScalingSample) -> bool:
    return (sample.requests or 0) > 0 or (sample.in_flight or 0) > 0 or (sample.waiting or 0) > 0


def _unhurried(sample: ScalingSample, settled: _Settled) -> _Settled:
    desired, now = settled[0], sample.desired
    if desired < now and (sample.starting or sample.leaving):
        rule = "starting" if sample.starting else "leaving"
        return now, rule, f"{desired} wanted, not down while {sample.starting or sample.leaving} {rule}"
    if desired > max(now, 1) and sample.crashes >= _CRASH_LOOP:
        reason = f"{desired} wanted, not up: {sample.crashes} replicas ended by themselves in the last minute"
        return max(now, 1), "crash loop", reason
    return settled


def _between(settled: _Settled, least: int, most: int, words: str) -> _Settled:
    desired, _, reason = settled
    if desired < least:
        return least, "minimum", f"{reason}, at least {least}{words}"
    if desired > most:
        return most, "maximum", f"{reason}, at most {most}{words}"
    return settled


def _held_by_machine(sample: ScalingSample, settled: _Settled, least: int) -> _Settled:
    desired, limit = settled[0], sample.limit
    if limit is None or desired <= limit:
        return settled
    if sample.starting or sample.leaving:  # free memory is not steady then: nothing more comes, and nothing goes
        limit = max(limit, min(desired, sample.desired))
        if desired == limit:
            return settled
    wanted = f"at least {least} asked for, but" if least > limit else f"{settled[2]},"
    why = f": {sample.limited_by}" if sample.limited_by else ""
    return max(limit, 0), "machine", f"{wanted} this machine holds {limit}{why}"


def _held(sample: ScalingSample, reason: str, desired: int) -> ScalingDecision:
    return ScalingDecision(
        sample=sample, metric="", value=None, target=None, wanted=desired, desired=desired, rule="hold", window=0.0,
        reason=reason,
    )  # fmt: skip
