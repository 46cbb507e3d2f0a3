"""A version that a container is to fetch from a bucket."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from mlnb import ModelRegistry
from mlnb.errors import PackagingError
from mlnb.packaging.subjects import subject_of

ROWS = np.arange(6.0).reshape(3, 2)


def test_the_bucket_has_to_have_it_under_its_number(registry: ModelRegistry, s3_url: str) -> None:
    lines = [LinearRegression().fit(ROWS, slope * ROWS[:, 0]) for slope in (1, 2)]
    version = registry.register(lines[0], "line", example=ROWS)
    with pytest.raises(PackagingError, match=r"line:1 cannot be fetched from s3://.*: There is no model 'line'"):
        subject_of(registry, version, source=s3_url)
    other = registry.copy("line:1", s3_url)
    subject = subject_of(registry, version, source=s3_url)
    assert (subject.registry, subject.extras, other.number) == (s3_url, ("s3",), 1)
    second = registry.register(lines[1], "line", example=ROWS)
    ModelRegistry(s3_url).register(lines[0], "line", example=ROWS)
    with pytest.raises(PackagingError, match=r"line:2 in s3://.* is another model than line:2 in .*registry\.copy\("):
        subject_of(registry, second, source=s3_url)
