"""Two versions compared, the card of one, and what the registry knew at a time."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlnb import ModelRegistry
from mlnb.errors import AliasMovedError, InvalidInputError, InvalidNameError, ModelNotFoundError, VersionInUseError
from mlnb.registry.diff import VersionDiff
from mlnb.registry.lineage import LineageProbe, digest_of, tell_notebook
from mlnb.registry.tables import format_delta

ROWS = np.random.default_rng(0).standard_normal((60, 3))
TARGET = (ROWS[:, 0] > 0).astype(int)


@pytest.fixture
def two(registry: ModelRegistry) -> ModelRegistry:
    first = make_pipeline(StandardScaler(), LogisticRegression(C=1.0)).fit(ROWS, TARGET)
    second = make_pipeline(StandardScaler(), LogisticRegression(C=0.001)).fit(ROWS, 1 - TARGET)
    registry.register(first, "iris", example=ROWS, metrics={"accuracy": 0.9, "auc": 0.8}, description="<b>first</b>")
    registry.register(second, "iris", example=ROWS, metrics={"accuracy": 0.925})
    return registry


def changes(diff: VersionDiff) -> dict[tuple[str, str], tuple[str, str, str]]:
    return {(one.section, one.name): (one.old, one.new, one.delta) for one in diff}


class TestDiff:
    def test_it_names_what_differs_and_nothing_else(self, two: ModelRegistry) -> None:
        found = changes(two.diff("iris:1", "iris:2"))
        assert found["metrics", "accuracy"] == ("0.9", "0.925", "+0.025")
        assert found["metrics", "auc"] == ("0.8", "-", "")
        assert found["parameters", "logisticregression__C"] == ("1.0", "0.001", "")
        assert ("parameters", "logisticregression__penalty") not in found
        assert found["model", "description"] == ("<b>first</b>", "", "")
        wrong = int((two.load("iris:1").predict(ROWS) != two.load("iris:2").predict(ROWS)).sum())
        assert wrong > 20
        assert found["golden answers", "of 32 rows"][1].endswith(" answered differently")
        assert not [name for section, name in found if section in ("schema", "requirements")]

    def test_a_version_does_not_differ_from_itself(self, two: ModelRegistry) -> None:
        same = two.diff("iris:1", "iris")
        assert len(two.diff("iris:1", "iris:1")) == 0
        assert "no difference" in repr(two.diff("iris:1", "iris:1"))
        assert "no difference" in two.diff("iris:1", "iris:1")._repr_html_()
        assert same.new.number == 2

    def test_another_schema_and_size_are_named(self, registry: ModelRegistry) -> None:
        registry.register(Ridge().fit(ROWS, TARGET), "m", example=ROWS)
        wide = np.hstack([ROWS, ROWS[:, :1] * 10])
        registry.register(Ridge().fit(wide, TARGET), "m", example=wide)
        found = changes(registry.diff("m:1", "m:2"))
        assert found["schema", "x3"][0] == "-"
        assert found["schema", "x3"][1].startswith("float64, ")
        assert found["golden answers", "other rows, so not compared"] == ("32 rows", "32 rows", "")
        assert found["model", "size"][2][0] in "+-"

    def test_a_version_without_an_example_is_compared_as_far_as_it_goes(self, two: ModelRegistry) -> None:
        two.register(Ridge().fit(ROWS, TARGET), "iris")
        found = changes(two.diff("iris:2", "iris:3"))
        assert found["golden answers", "other rows, so not compared"] == ("32 rows", "-", "")
        assert found["model", "type"][1] == "sklearn.linear_model._ridge.Ridge"

    def test_as_html_what_the_user_wrote_is_escaped(self, two: ModelRegistry) -> None:
        html = two.diff("iris:1", "iris:2")._repr_html_()
        assert "&lt;b&gt;first&lt;/b&gt;" in html
        assert "<b>" not in html
        assert html.count("mlnb-section") == 4  # model, metrics, parameters, golden answers

    def test_as_text_the_columns_line_up(self, two: ModelRegistry) -> None:
        head, *lines = repr(two.diff("iris:1", "iris:2")).splitlines()
        assert head == "iris:1 → iris:2"
        assert len({line.index(line.split()[1]) for line in lines if line.startswith(("metrics", "parameters"))}) == 1

    def test_a_delta_has_its_sign(self) -> None:
        assert [format_delta(value) for value in (0.5, -0.5, 0.0)] == ["+0.5", "-0.5", "+0"]


class TestCard:
    def test_markdown_says_what_it_is_takes_and_comes_from(self, two: ModelRegistry) -> None:
        two.set_alias("iris", "champion", 1)
        card = str(two.card("iris@champion"))
        for part in (
            "# iris v1 @champion", "## Metrics", "| accuracy | 0.9 |", "| x0 | float64 |",
            "| logisticregression__C | 1.0 |", "## Comes from", "| aliased @champion |", "not proved yet",
            f'mlnb.ModelRegistry({two.url!r}).load("iris:1")',
        ):  # fmt: skip
            assert part in card, part

    def test_each_table_row_has_as_many_cells_as_its_header(self, two: ModelRegistry) -> None:
        two.register(Ridge().fit(ROWS, TARGET), "iris", description="a | b\nc", example=ROWS)
        tables = str(two.card("iris")).split("## ")[1:]
        for table in tables:
            rows = [line.replace("\\|", "") for line in table.splitlines() if line.startswith("|")]
            assert len({row.count("|") for row in rows}) <= 1, table

    def test_html_is_escaped(self, two: ModelRegistry) -> None:
        html = two.card("iris:1")._repr_html_()
        assert "&lt;b&gt;first&lt;/b&gt;" in html
        assert "<b>" not in html
        assert two.card("iris:1")._repr_markdown_() == str(two.card("iris:1"))

    def test_the_code_in_it_runs(self, two: ModelRegistry) -> None:
        code = str(two.card("iris:2")).split("```python")[1].split("```")[0]
        names: dict[str, Any] = {}
        exec(code, names)  # noqa: S102 - what the card tells people to run
        assert names["model"].predict(ROWS).shape == (60,)


class TestTime:
    def test_references_mean_what_they_meant_then(self, registry: ModelRegistry) -> None:
        moments = [datetime.now(UTC)]
        for value in (1.0, 2.0):
            registry.register(Ridge(alpha=value).fit(ROWS, TARGET), "m")
            registry.set_alias("m", "champion", int(value))
            registry.record(registry.version("m"), "deployed")
            moments.append(datetime.now(UTC))
            time.sleep(0.002)  # the clock's step
        assert registry.load("m", as_of=moments[1]).alpha == 1.0
        assert registry.load("m@champion", as_of=moments[1]).alpha == 1.0
        assert registry.load("m@champion", as_of=moments[2]).alpha == 2.0
        assert [registry.live("m", as_of=moment) for moment in moments] == [None, 1, 2]
        assert registry.aliases("m", as_of=moments[0]) == {}
        assert registry.version("m", as_of=moments[1].isoformat()).number == 1
        assert registry.version("m", as_of=moments[1].astimezone().replace(tzinfo=None)).number == 1  # local time
        with pytest.raises(ModelNotFoundError, match="had no version at"):
            registry.load("m", as_of=moments[0] - timedelta(days=1))
        with pytest.raises(InvalidInputError, match="ISO text"):
            registry.load("m", as_of="yesterday")

    def test_nothing_is_live_after_a_stop(self, registry: ModelRegistry) -> None:
        version = registry.register(Ridge().fit(ROWS, TARGET), "m")
        registry.record(version, "deployed")
        assert registry.live("m") == 1
        registry.record(version, "stopped")
        assert registry.live("m") is None


class TestAliases:
    def test_one_that_somebody_moved_meanwhile_stays(self, two: ModelRegistry) -> None:
        two.set_alias("iris", "champion", 1, expected=None)
        ModelRegistry(two.url).set_alias("iris", "champion", 2, expected=1)
        with pytest.raises(AliasMovedError, match=r"means version 2, not version 1: it was moved by .+@.+ at"):
            two.set_alias("iris", "champion", 1, expected=1)
        with pytest.raises(AliasMovedError, match="means version 2, not nothing"):
            two.set_alias("iris", "champion", 1, expected=None)
        assert two.aliases("iris") == {"champion": 2}
        two.set_alias("iris", "champion", 1)
        assert two.aliases("iris") == {"champion": 1}

    def test_one_that_is_removed_means_nothing(self, two: ModelRegistry) -> None:
        two.set_alias("iris", "champion", 1)
        two.remove_alias("iris", "champion")
        assert two.aliases("iris") == {}
        with pytest.raises(ModelNotFoundError, match="no alias 'champion'"):
            two.remove_alias("iris", "champion")
        two.set_alias("iris", "champion", 2, expected=None)
        assert two.aliases("iris") == {"champion": 2}

    def test_a_number_is_no_alias(self, two: ModelRegistry) -> None:
        with pytest.raises(InvalidNameError, match="iris:2 means that version"):
            two.set_alias("iris", "2", 1)


class TestDeleting:
    def test_a_tombstone_stays_and_the_number_is_not_given_again(self, two: ModelRegistry) -> None:
        two.delete("iris:2")
        assert [version.number for version in two.versions("iris")] == [1]
        with pytest.raises(ModelNotFoundError, match="iris:2 was deleted"):
            two.load("iris:2")
        assert two.history("iris")[-1].action == "deleted"
        assert two.register(Ridge().fit(ROWS, TARGET), "iris").number == 3

    def test_its_files_are_freed_and_those_of_others_stay(self, two: ModelRegistry) -> None:
        kept, gone = two.version("iris:1"), two.version("iris:2")
        two.delete("iris:2")
        collected = two.collect()
        assert collected.files == len(set(gone.contents) - set(kept.contents)) == 3  # model, golden rows and baseline
        assert collected.size > gone.size
        assert two.collect().files == 0
        assert two.load("iris:1").predict(ROWS).shape == (60,)

    def test_what_is_live_or_has_an_alias_is_not_deleted(self, two: ModelRegistry) -> None:
        two.set_alias("iris", "champion", 1)
        with pytest.raises(VersionInUseError, match="is @champion"):
            two.delete("iris:1")
        two.record(two.version("iris:2"), "deployed")
        with pytest.raises(VersionInUseError, match="is live"):
            two.delete("iris:2")
        assert len(two.versions("iris")) == 2

    def test_roll_back_passes_over_it(self, two: ModelRegistry) -> None:
        two.register(Ridge().fit(ROWS, TARGET), "iris")
        for number in (1, 2, 3):
            two.record(two.version(f"iris:{number}"), "deployed")
        two.delete("iris:2")
        assert two.rollback("iris").number == 1

    def test_the_last_version_takes_the_name_along(self, registry: ModelRegistry) -> None:
        registry.register(Ridge().fit(ROWS, TARGET), "m")
        with pytest.raises(InvalidNameError, match="name it by its number"):
            registry.delete("m")
        registry.delete("m:1")
        assert registry.names() == []


class TestLineage:
    def test_the_commit_and_whether_it_is_dirty(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        repository = tmp_path / "repository"
        repository.mkdir()
        monkeypatch.chdir(repository)
        for name in [name for name in os.environ if name.startswith("GIT_")]:
            monkeypatch.delenv(name)
        Path("file").write_text("1")
        git("init", "-q")
        assert "commit" not in lineage()  # nothing committed yet
        git("add", "file")
        git("commit", "-qm", "first")
        commit = git("rev-parse", "HEAD")
        assert {"commit": commit, "dirty": False}.items() <= lineage().items()
        Path("file").write_text("2")
        assert {"commit": commit, "dirty": True}.items() <= lineage().items()

    def test_outside_of_a_repository_there_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert "commit" not in lineage()

    def test_who_where_and_from_which_data(self, two: ModelRegistry) -> None:
        found = two.version("iris").lineage
        assert {"user", "host", "example"} <= set(found)
        assert found["example"] == two.version("iris:1").lineage["example"] == digest_of(ROWS)["example"]
        assert digest_of(ROWS + 1) != digest_of(ROWS)
        assert digest_of(None) == digest_of(lambda: None) == {}

    def test_the_notebook_says_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JPY_SESSION_NAME", "work/iris.ipynb")
        assert lineage()["notebook"] == "work/iris.ipynb"
        monkeypatch.setenv("JPY_SESSION_NAME", "console-1")
        assert "notebook" not in lineage()
        monkeypatch.setenv("JPY_SESSION_NAME", "work/\udcff.ipynb")  # a file's name that is no UTF-8
        assert lineage()["notebook"] == "work/?.ipynb"
        tell_notebook(lambda: {"notebook": "a.ipynb", "cell": "7f"})
        try:
            assert {"notebook": "a.ipynb", "cell": "7f"}.items() <= lineage().items()
        finally:
            tell_notebook(None)


def lineage() -> dict[str, Any]:
    with LineageProbe(None) as probe:
        return probe.result()


def git(*arguments: str) -> str:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    command = ["git", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | who).stdout.strip()


def test_a_version_is_not_copied_to_where_it_is(two: ModelRegistry) -> None:
    with pytest.raises(InvalidInputError, match=r"iris:1 is in .* already; give another registry"):
        two.copy("iris:1", two.url)
    assert len(two.versions("iris")) == 2
