from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import InvalidNameError
from mlnb.registry.reference import ModelReference, is_valid_name, validate_name

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)


@given(NAMES, st.integers(1, 99_999_999))
def test_a_numbered_reference_reads_back(name: str, number: int) -> None:
    assert ModelReference.parse(f"{name}:{number}") == ModelReference(name, number=number)
    assert str(ModelReference(name, number=number)) == f"{name}:{number}"


@given(NAMES, NAMES)
def test_an_aliased_reference_reads_back(name: str, alias: str) -> None:
    assert ModelReference.parse(f"{name}@{alias}") == ModelReference(name, alias=alias)
    assert str(ModelReference(name, alias=alias)) == f"{name}@{alias}"


@given(st.text())
def test_a_valid_name_is_one_path_component_that_stays_inside(name: str) -> None:
    if is_valid_name(name):
        assert PurePosixPath("models", name).parts == ("models", name)
        assert name not in (".", "..")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "a\\b", ".hidden", "-x", "a\n", "ä", "a" * 64, "a b", "a\0"]
)
def test_a_hostile_name_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(InvalidNameError, match="letters, digits"):
        validate_name(name)


@pytest.mark.parametrize(
    "text", ["iris:", "iris:0", "iris:x", "iris:-1", "iris:1:2", "iris@", "iris@a/b", "@champion", ":3"]
)
def test_a_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        ModelReference.parse(text)
