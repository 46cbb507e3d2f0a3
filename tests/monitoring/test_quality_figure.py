from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

from mlnb.errors import MissingLibraryError
from mlnb.monitoring.quality import Labelled, QualityReport


def report(*, classes: int = 2, sure: bool = True, rows: int = 100) -> QualityReport:
    labelled = Labelled()
    names = tuple(f"<class {at}>" for at in range(classes))
    for at in range(rows):
        truth, answer = at % classes, (at if at % 5 else at + 1) % classes
        given = np.full((1, classes), 0.2 / (classes - 1))
        given[0, answer] = 0.8
        labelled.note(
            1, at=at, truth=[names[truth]], prediction=np.array([names[answer]]), probabilities=given if sure else None
        )
    return labelled.report(1, window_name="all time", labels=names, output="class")


def drawn(shown: QualityReport) -> Any:
    return json.loads(shown.figure().to_json())


def traces(figure: Any) -> dict[str, Any]:
    return {trace["name"]: trace for trace in figure["data"]}


def test_it_draws_calibration_and_confusion() -> None:
    shown = report()
    found = traces(drawn(shown))
    assert list(found) == ["as good as its word", "calibration", "confusion", "counts"]
    assert found["calibration"]["y"] == [one.observed for one in shown.calibration]
    assert min(found["calibration"]["error_y"]["arrayminus"]) >= 0.0
    assert found["counts"]["text"] == ["40", "10", "10", "40"]
    assert found["counts"]["textfont"]["color"] == ["white", "#767676", "#767676", "white"]
    assert found["confusion"]["z"] == [[0.8, 0.2], [0.2, 0.8]]


def test_the_words_stand_above_on_a_ground_that_shows_the_page() -> None:
    layout = drawn(report())["layout"]
    texts = [one["text"].replace("<br>", " ") for one in layout["annotations"]]
    assert texts[-1].startswith("v1, all time: accuracy 0.80 (0.71 to 0.87), 100 labelled rows.")
    assert texts[:2] == ["share observed", "true class"]
    assert "&lt;class 1&gt;" in texts[-1]
    assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
    assert layout["xaxis2"]["ticktext"] == ["&lt;class 0&gt;", "&lt;class 1&gt;"]


def test_what_a_report_has_not_is_left_away() -> None:
    assert list(traces(drawn(report(sure=False)))) == ["confusion", "counts"]
    nothing = drawn(report(rows=5))
    assert nothing["data"] == []
    assert nothing["layout"]["yaxis"]["visible"] is False


def test_many_classes_have_fewer_ticks_and_no_text() -> None:
    figure = drawn(report(classes=25, rows=500))
    assert "counts" not in traces(figure)
    assert len(figure["layout"]["xaxis2"]["ticktext"]) == 13


def test_without_plotly_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.subplots", None)
    with pytest.raises(MissingLibraryError, match="pip install"):
        report().figure()
