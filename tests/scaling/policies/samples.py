"""Samples for tests of policies, and lists of them in any order with anything missing."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mlnb.scaling.policies.decision import Controller, ScalingDecision, ScalingSample
from mlnb.scaling.service_time import ServiceTime

SERVICE = ServiceTime(fixed=0.02, spread=0.5)
_missing = st.sampled_from([None, float("nan"), float("inf"), -1.0])
_figure = _missing | st.floats(0, 1e6)
_services = st.sampled_from(
    [
        None,
        SERVICE,
        ServiceTime(fixed=0.0),
        ServiceTime(fixed=float("nan")),
        ServiceTime(fixed=0.005, per_row=0.001, spread=0.2, most_rows=16),
    ]
)


def sample(at: float, **given: Any) -> ScalingSample:
    figures: dict[str, Any] = {"wall": at, "interval": 0.5, "desired": 1, "service": SERVICE} | given
    return ScalingSample(at=at, **({"ready": figures["desired"]} | figures))


def followed(controller: Controller, figures: list[dict[str, Any]], *, desired: int = 1) -> list[ScalingDecision]:
    """Return the decisions on samples half a second apart, each applied at once."""
    decisions = []
    for number, given in enumerate(figures, start=1):
        decisions.append(controller.step(sample(number / 2, **{"desired": desired} | given)))
        desired = decisions[-1].desired
    return decisions


def anything() -> st.SearchStrategy[list[ScalingSample]]:
    """Samples that came late, twice or not at all, with any figure missing."""
    one = st.builds(
        sample, st.integers(0, 40).map(lambda number: number / 2), desired=st.integers(0, 8), ready=st.integers(0, 8),
        starting=st.integers(0, 2), requests=st.none() | st.integers(0, 10_000), in_flight=_figure, waiting=_figure,
        queue_wait=_figure, utilisation=_figure, cpu=_figure, p95=_figure, service=_services,
    )  # fmt: skip
    return st.lists(one, max_size=30)
