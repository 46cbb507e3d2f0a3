from __future__ import annotations

import json
import pickle
import re
import sys
from typing import Any

import numpy as np
import pytest

from mlnb.errors import InvalidInputError, MissingLibraryError
from mlnb.monitoring.drift import DriftReport, assess
from mlnb.registry.rows.baseline import Baseline, summarized


def report(*, columns: int = 2) -> DriftReport:
    rng = np.random.default_rng(0)
    kinds = np.empty(400, dtype=object)
    kinds[:] = ["<a>", "b"] * 200
    known = {f"x{at}": rng.normal(size=300) for at in range(columns)} | {"kind": kinds}
    now = {name: rng.normal(size=400) for name in known} | {"kind": kinds, "x0": rng.normal(1.0, size=400)}
    baseline = Baseline(
        rows=300, repeats=0.0, columns=tuple(summarized(name, values) for name, values in known.items()),
        prediction=summarized("prediction", kinds),
    )  # fmt: skip
    return assess(baseline, now, prediction=kinds, name="m", version=2)


def drawn(figure: Any) -> Any:
    return json.loads(figure.to_json())


def test_it_is_a_table_as_text_and_as_html() -> None:
    text = repr(report())
    assert text.splitlines()[0] == "1 of 3 columns drifted, x0 most, by 400 rows."
    assert "▲ x0" in text
    assert "< 0.001" in text
    assert {"p, adjusted", "outside"} <= set(re.split(r"  +", text.splitlines()[1]))
    html = report()._repr_html_()
    assert html.count("<tr>") == 5
    assert "&lt; 0.001" in html
    assert "mlnb-drift" in html


def test_names_and_words_are_escaped() -> None:
    kinds = np.empty(200, dtype=object)
    kinds[:] = ["<b>"] * 200
    baseline = Baseline(rows=200, repeats=1.0, columns=(summarized("<i>", kinds),))
    kinds = kinds.copy()
    kinds[:] = ["<script>"] * 200
    html = assess(baseline, {"<i>": kinds})._repr_html_()
    assert "<script>" not in html
    assert "<i>" not in html
    assert "&lt;i&gt;" in html


def test_of_many_columns_the_first_are_shown_and_the_others_folded() -> None:
    shown = report(columns=40)
    assert "… and 11 more columns: .frame()" in repr(shown)
    first, rest = shown._repr_html_().split("<details><summary>32 more</summary>")
    assert (first.count("<tr>"), rest.count("<tr>")) == (1 + 10, 1 + 32)
    assert len(shown.frame()) == 41


def test_the_frame_has_the_figures_in_order_of_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = report().frame()
    assert frame.index[0] == "x0"
    assert frame.loc["x0", "verdict"] == "drifted"
    assert {"statistic", "p_value", "adjusted", "effect", "psi", "wasserstein", "jensen_shannon"} <= set(frame.columns)
    assert assess(None, {}).frame().empty
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingLibraryError, match="pandas"):
        report().frame()


def test_it_goes_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(report())).drifted == ("x0",)


def test_a_column_of_numbers_is_drawn_before_and_now() -> None:
    figure = drawn(report().figure("x0"))
    before, now = figure["data"]
    assert (before["name"], now["name"]) == ("example", "now")
    assert sum(before["y"]) == pytest.approx(100, abs=0.1)  # percent
    assert len(now["x"]) == len(now["y"]) == len(before["y"]) + 1
    title = figure["layout"]["annotations"][-1]["text"]
    assert title.startswith("x0 — drifted: median")
    assert figure["layout"]["paper_bgcolor"] == figure["layout"]["plot_bgcolor"] == "rgba(0,0,0,0)"


def test_categories_are_drawn_side_by_side_with_names_that_are_escaped() -> None:
    figure = drawn(report().figure("kind"))
    assert figure["layout"]["xaxis"]["ticktext"] == ["&lt;a&gt;", "b"]
    assert figure["data"][0]["y"] == figure["data"][1]["y"] == [50, 50]
    assert drawn(report().figure("prediction"))["layout"]["annotations"][-1]["text"] == "prediction — steady"


def test_the_overview_has_a_bar_for_each_column() -> None:
    figure = drawn(report().figure())
    assert {trace["name"]: len(trace["y"]) for trace in figure["data"]} == {"drifted": 1, "steady": 3, "too few": 0}
    assert figure["layout"]["yaxis"]["ticktext"][:2] == ["prediction", "▲ x0"]
    assert figure["layout"]["annotations"][-1]["text"].startswith("1 of 3 columns drifted")


def test_without_an_example_only_the_words_are_drawn() -> None:
    figure = drawn(assess(None, {}).figure())
    assert figure["layout"]["yaxis"]["visible"] is False
    assert figure["layout"]["annotations"][-1]["text"].startswith("No example was stored")


def test_a_column_without_values_is_drawn_empty() -> None:
    baseline = Baseline(rows=300, repeats=1.0, columns=(summarized("a", np.random.default_rng(0).normal(size=300)),))
    figure = drawn(assess(baseline, {"a": np.full(300, np.nan)}).figure("a"))
    assert figure["layout"]["annotations"][-1]["text"] == "a — drifted: missing 0 % before, 100 % now"


def test_unknown_columns_and_a_missing_plotly_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'x1'"):
        report().figure("x11")
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    for column in ("x0", None):
        with pytest.raises(MissingLibraryError, match="needs plotly"):
            report().figure(column)
