"""What is remembered of a client's paths is bounded in bytes, not only in number."""

from __future__ import annotations

from mlnb.serving import predicting
from mlnb.serving.predicting import Routes


def test_a_long_path_is_not_remembered() -> None:
    routes = Routes({})
    before = predicting._place.cache_info().currsize
    for number in range(5):
        assert routes(b"/models/%d%b/predict" % (number, b"x" * 100_000)) is None
    assert predicting._place.cache_info().currsize == before
