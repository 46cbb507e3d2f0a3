from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

from mlnb import ModelRegistry, ModelVersion
from mlnb.registry.proofs.proof import Proof
from mlnb.registry.tables import (
    WIDTH,
    Cell,
    Column,
    VersionTable,
    format_delta,
    format_metrics,
    format_size,
    lay_out,
    version_table,
)

CONSTANT = DummyClassifier().fit([[0.0], [1.0]], [1, 1])
HOSTILE = "<script>alert(\"x\")</script>&' onload='y"


class Rows(HTMLParser):
    """What a table's cells say, row by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002 - the parser calls it so
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.rows[-1][-1] += data


def made(number: int, **known: Any) -> ModelVersion:
    base = ModelVersion(
        name="iris", number=number, created=datetime(2026, 1, 1, tzinfo=UTC), metrics={}, description="",
        model_type="Forest", format="cloudpickle", files=(), signature_digest="", golden_digest=None, parameters={},
        environment={"python": "3.11"}, lineage={}, read_signature=lambda _: None,  # type: ignore[arg-type,return-value]  # not asked for
    )  # fmt: skip
    return replace(base, **known)


def proof(*, portable: bool, reason: str = "") -> Proof:
    return Proof(portable=portable, reason=reason, rows=3, requirements=(), python="3.11", seconds=0.5)


def of_iris(*versions: ModelVersion, live: int | None = None, **known: Any) -> VersionTable:
    return VersionTable(versions, live={} if live is None else {"iris": live}, model="iris", **known)


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


def test_of_one_model_each_metric_has_a_column_with_the_difference_from_the_live_version() -> None:
    shown = of_iris(
        made(4, metrics={"accuracy": 0.95, "f1": 0.9}),
        made(3, metrics={"accuracy": 0.97}, description="deeper"),
        made(2, metrics={"accuracy": 0.9575}),
        made(1),
        live=2, aliases={"iris": {"old": 1, "b": 3, "a": 3}},
        proofs={"iris": {3: proof(portable=True), 2: proof(portable=False, reason="no module 'own'")}},
    )  # fmt: skip
    created = [version.created.astimezone().strftime("%Y-%m-%d %H:%M:%S") for version in shown]
    expected = [
        ["version", "live", "aliases", "created", "accuracy", "f1", "portable", "size", "description"],
        ["4", "", "", created[0], "0.9500 -0.0075", "0.9", "—", "0 B", ""],
        ["3", "", "@a @b", created[1], "0.9700 +0.0125", "", "yes", "0 B", "deeper"],
        ["2", "● live", "", created[2], "0.9575", "", "no", "0 B", ""],
        ["1", "", "@old", created[3], "", "", "—", "0 B", ""],
    ]
    html = shown._repr_html_()
    assert [[cell.strip() for cell in row] for row in Rows(html).rows] == expected
    assert html.count("<small") == 4  # accuracy leaves space for a difference in every row
    assert 'title="not portable: no module &#x27;own&#x27;"' in html
    header, *lines = repr(shown).splitlines()
    assert header.split() == expected[0]
    assert [line.split() for line in lines] == [" ".join(row).split() for row in expected[1:]]
    assert len({line.index("0.9") for line in lines[:3]}) == 1  # numbers stand below each other


@pytest.mark.parametrize("live", [None, 1, 7])
def test_without_another_live_version_there_is_no_difference(live: int | None) -> None:
    shown = of_iris(made(1, metrics={"accuracy": 0.97}), live=live)
    assert Rows(shown._repr_html_()).rows[1][4] == "0.97"
    assert "+" not in repr(shown)


def test_whatever_the_user_wrote_is_escaped_and_stays_on_its_line() -> None:
    version = made(1, description=HOSTILE, metrics={HOSTILE: 1.0})
    reason = {"iris": {1: proof(portable=False, reason=HOSTILE)}}
    shown = of_iris(version, aliases={"iris": {HOSTILE: 1}}, proofs=reason)
    parsed = Rows(shown._repr_html_())
    assert parsed.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert HOSTILE in parsed.rows[0]
    assert HOSTILE in parsed.rows[1]
    wild = of_iris(made(1, description="one\ntwo\t\x1b[31mred", metrics={"a\nb": 1.0}))
    assert len(repr(wild).splitlines()) == 2
    assert "\x1b" not in repr(wild)


def test_colours_are_those_of_jupyterlab_with_fallbacks() -> None:
    shown = of_iris(made(2, metrics={"a": 1.0}), made(1, metrics={"a": 2.0}), live=1)
    colours = [part.split(";")[0].split('"')[0] for part in shown._repr_html_().split("color: ")[1:]]
    assert colours
    assert all(colour.startswith("var(--jp-") and ", #" in colour for colour in colours)


def test_a_thousand_versions_show_the_newest_fifty() -> None:
    versions = [made(number) for number in range(1000, 0, -1)]
    shown = of_iris(*versions)
    assert len(shown) == 1000
    assert len(Rows(shown._repr_html_()).rows) == 1 + 50 + 1
    assert repr(shown).splitlines()[-1] == "… and 950 more: %model_versions iris --all"
    assert Rows(shown._repr_html_()).rows[-1] == ["… and 950 more: %model_versions iris --all"]
    everything = of_iris(*versions, shown=None)
    assert len(repr(everything).splitlines()) == len(Rows(everything._repr_html_()).rows) == 1001


def test_of_many_models_all_are_a_word_away() -> None:
    models = [made(1, name=f"m{at}") for at in range(60)]
    assert repr(VersionTable(models, live={})).splitlines()[-1] == "… and 10 more: %model_versions --all"


def test_text_keeps_to_its_width_and_gives_up_differences_before_values() -> None:
    measured = {"accuracy": 0.5, "f1": 0.5, "recall": 0.5}
    better = {name: value + 0.0123 for name, value in measured.items()}
    wide = of_iris(made(2, metrics=better, description="long " * 30), made(1, metrics=measured), live=1)
    assert max(map(len, repr(wide).splitlines())) <= WIDTH
    assert "0.5123" in repr(wide)
    assert "+0.0123" not in repr(wide)
    assert "…" in repr(wide)
    many = {f"metric_{at}": 0.25 for at in range(12)}
    assert max(map(len, repr(of_iris(made(1, metrics=many))).splitlines())) <= WIDTH


def test_the_table_of_a_registry_knows_live_aliases_and_proofs(registry: ModelRegistry) -> None:
    for _ in range(3):
        registry.register(CONSTANT, "iris", example=[[0.0]])
    registry.register(CONSTANT, "other")
    registry.set_alias("iris", "champion", 2)
    registry.set_alias("iris", "gone", 1)
    registry._ledger.delete(registry.version("iris:1"))  # by another process, in the same moment as the alias
    registry.record(registry.version("iris:2"), "deployed")
    registry._ledger.record(registry.version("iris:3"), "proved", proof=proof(portable=True).to_json())
    found = version_table(registry, "iris").to_json()
    assert [(one["number"], one["live"], one["aliases"], one["portable"]) for one in found] == [
        (3, False, [], True),
        (2, True, ["champion"], None),
    ]
    assert [str(version) for version in version_table(registry)] == ["iris:2", "other:1"]
    assert [str(version) for version in version_table(registry, live={"iris": 1})] == ["iris:3", "other:1"]


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1), st.integers(20, 120))
def test_every_line_of_a_layout_fits(cells: list[tuple[str, str]], width: int) -> None:
    columns = [
        Column("a", tuple(Cell(text) for text, _ in cells), least=5),
        Column("b", tuple(Cell(text) for _, text in cells), least=5),
    ]
    lines = lay_out(columns, width=width).split("\n")
    assert len(lines) == 1 + len(cells)
    for line in lines:
        wide = sum(unicodedata.east_asian_width(one) in "WF" for one in line)
        flat = sum(unicodedata.category(one) in ("Mn", "Me", "Cf") for one in line)
        assert len(line) + wide - flat <= width


def test_wide_characters_line_up() -> None:
    text = lay_out(
        [Column("model", (Cell("鸢尾花"), Cell("iris"))), Column("n", (Cell("1"), Cell("2")), kind="number")]
    )
    assert text.splitlines() == ["model   n", "鸢尾花  1", "iris    2"]


def test_sizes() -> None:
    assert [format_size(size) for size in (0, 999, 1000, 2_400_000_000)] == ["0 B", "999 B", "1.0 kB", "2.4 GB"]


def test_numbers_are_written_so_that_one_can_read_them() -> None:
    assert format_metrics({"rmse": 48231.7, "p": 0.000012, "n": 5.0}) == "rmse 48232, p 1.2e-05, n 5"
    assert [format_delta(one) for one in (-12345.6, 0.0, 1e-5)] == ["-12346", "+0", "+1e-05"]
    points = of_iris(made(2, metrics={"p": 1e-7}), made(1, metrics={"p": 0.25}))
    assert [row[4] for row in Rows(points._repr_html_()).rows] == ["p", "1e-07", "0.25"]
