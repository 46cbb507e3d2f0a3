"""The same model stored twice with two examples: each copy has the signature of its own version."""

from __future__ import annotations

from sklearn.linear_model import LinearRegression

import mlnb
from mlnb.serving.local_copies import LocalCopies


def test_versions_that_share_their_files_are_still_two() -> None:
    bucket = mlnb.ModelRegistry("memory://review-of-local-copies")
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    versions = [bucket.register(model, "line", example=[[value]]) for value in (0.5, 0.25)]
    assert versions[0].digest == versions[1].digest
    copies = LocalCopies()
    try:
        for version in versions:
            place, reference = copies.of(bucket, version)
            assert mlnb.ModelRegistry(place).version(reference).signature == version.signature
    finally:
        copies.close()
