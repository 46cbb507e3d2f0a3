"""How much of a machine is asked for, as people write it."""

from __future__ import annotations

from typing import Any

import pytest

from mlnb.errors import InvalidInputError
from mlnb.packaging.amounts import bytes_of, cores_of


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (2**30, 2**30), ("512MiB", 512 * 2**20), ("512 Mi", 512 * 2**20), ("1.5 GB", 1_500_000_000), ("2G", 2 * 10**9),
        ("100000000", 10**8), ("70000 kB", 7 * 10**7), ("70000K", 7 * 10**7),
    ],
)  # fmt: skip
def test_memory(given: Any, size: int) -> None:
    assert bytes_of(given) == size


@pytest.mark.parametrize("given", ["lots", "", "512 XB", "-1 GB", "nan", None, True, 1.5, "1 MiB", 0, -1])
def test_what_is_no_memory_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match="memory="):
        bytes_of(given)


@pytest.mark.parametrize("given", [0.25, 1, 64])
def test_cores(given: float) -> None:
    assert cores_of(given) == given


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), True, "2", None, 5000])
def test_what_are_no_cores_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match="cores="):
        cores_of(given)
