"""Names of images and of objects in Kubernetes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import InvalidInputError
from mlnb.packaging.naming import image_tag, object_name
from mlnb.registry.reference import is_valid_name

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True).filter(is_valid_name)


@given(NAMES)
def test_every_name_of_a_model_becomes_one_that_docker_and_kubernetes_accept(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*:7", image_tag(name, 7))
    found = object_name(name)
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?", found.name)
    assert (found.said == "") is (found.name == name)
    assert not found.said or (repr(name) in found.said and repr(found.name) in found.said)


def test_long_names_stay_apart() -> None:
    assert object_name("a" * 60 + "b").name != object_name("a" * 60 + "c").name


def test_models_do_not_share_an_image() -> None:
    names = ("iris", "Iris", "IRIS", "iris_", "iris-v2", "Iris-v2", "iris-_v2")
    assert len({image_tag(name, 3) for name in names}) == len(names)
    assert image_tag("iris", 3) == "iris:3"


@pytest.mark.parametrize("place", ["example.org", "localhost:5000", "team", "images.example.org:5000/a/b_c"])
def test_a_repository_comes_first(place: str) -> None:
    assert image_tag("iris", 3, repository=place) == f"{place}/iris:3"


@pytest.mark.parametrize("place", ["Team", "a/team:3", "https://example.org", "a//b", "team/", " ", "a@sha256:0"])
def test_what_is_no_repository_is_refused(place: str) -> None:
    with pytest.raises(InvalidInputError, match=r"no place for images.*for instance 'images\.example\.org/team'"):
        image_tag("iris", 3, repository=place)
