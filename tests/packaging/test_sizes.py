"""The size that an image is expected to have."""

from __future__ import annotations

from packaged import packaged

from mlnb.packaging.locking import Lock
from mlnb.packaging.sizes import expected_size

NOTHING = Lock("", "", ())


def test_it_is_of_the_base_of_mlnb_of_the_packages_and_of_the_model() -> None:
    empty = expected_size(packaged(), NOTHING, base="python:3.11-slim")
    assert 130e6 < empty < 140e6
    assert expected_size(packaged(), NOTHING, base="mine", base_size=50_000_000) == empty - 80_000_000
    assert expected_size(packaged(), NOTHING, base="python:3.11") > 1e9
    assert expected_size(packaged(size=10**9), NOTHING, base="python:3.11-slim") == empty + 10**9 - packaged().size
    from_a_bucket = expected_size(packaged(registry="s3://a/b"), NOTHING, base="python:3.11-slim")
    assert from_a_bucket == empty - packaged().size
    packages = Lock("", "", ("scikit-learn==1.9.0", "scipy==1.17.0", "numpy==2.4.0"))
    assert 150e6 < expected_size(packaged(), packages, base="python:3.11-slim") - empty < 300e6
    assert expected_size(packaged(), Lock("", "", ("nowhere-here==1",)), base="python:3.11-slim") > empty
