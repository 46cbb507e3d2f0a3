from __future__ import annotations

import pytest
from sklearn.dummy import DummyClassifier

from mlnb import ModelRegistry
from mlnb.registry.tables import VersionTable, format_size

CONSTANT = DummyClassifier().fit([[0.0], [1.0]], [1, 1])


@pytest.fixture
def table(registry: ModelRegistry) -> VersionTable:
    registry.register(CONSTANT, "iris", metrics={"accuracy": 0.91234567}, description="<b>first</b>")
    registry.register(CONSTANT, "iris")
    return VersionTable(reversed(registry.versions("iris")), live={"iris": 1}, aliases={"iris": {"champion": 2}})


def test_it_is_a_sequence(table: VersionTable) -> None:
    assert [version.number for version in table] == [2, 1]
    assert table[0].number == 2
    assert [version.number for version in table[1:]] == [1]


def test_as_text(table: VersionTable) -> None:
    header, second, first = repr(table).splitlines()
    assert header.split() == ["model", "version", "live", "created", "metrics", "description", "size"]
    assert "@champion" in second
    assert "● live" in first
    assert "accuracy 0.9123" in first


def test_as_html_what_the_user_wrote_is_escaped(table: VersionTable) -> None:
    html = table._repr_html_()
    assert "&lt;b&gt;first&lt;/b&gt;" in html
    assert "<b>" not in html
    assert html.count("</span> live") == 1


def test_without_versions_it_says_what_to_type() -> None:
    empty = VersionTable([], live={})
    assert "%deploy_model" in repr(empty)
    assert "%deploy_model" in empty._repr_html_()


def test_sizes() -> None:
    assert [format_size(size) for size in (0, 999, 1000, 2_400_000_000)] == ["0 B", "999 B", "1.0 kB", "2.4 GB"]
