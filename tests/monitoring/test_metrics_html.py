from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from snapshots import check

from mlnb.errors import InvalidInputError
from mlnb.monitoring import ModelMonitor
from mlnb.monitoring.metrics import Answers, MetricsSnapshot, Spread, WindowMetrics
from mlnb.monitoring.metrics_html import last_error, metrics_html

EMPTY = ModelMonitor().snapshot(now=100.0, windows=True)
BUSY = WindowMetrics(
    name="1 minute", seconds=60, requests=12_345, errors=67, rows=20_000, rate=205.75,
    latency=Spread(count=12_000, p50=0.42, p95=12.345, p99=1234.5, largest=5000.0, mean=2.0),
    waited=Spread(count=12_000, p50=0.1, p95=0.25, p99=1.0, largest=2.0, mean=0.2),
    batch=Spread(count=12_000, p50=1.0, p95=8.0, p99=16.0, largest=32.0, mean=3.14159),
    answers=(Answers(version=3, count=200, missing=2, classes={"benign": 150, "malignant": 48}),),
)  # fmt: skip


class Cells(HTMLParser):
    """Reads the rows of a table, and what stands beside it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.beside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, _: Any) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and "small" not in self.tags:
            self.rows[-1][-1] += data
        else:
            self.beside += data


def of(*windows: WindowMetrics, **changes: Any) -> MetricsSnapshot:
    return replace(EMPTY, windows=windows, **changes)


def test_a_row_for_each_window() -> None:
    shown = Cells(metrics_html(of(BUSY, replace(BUSY, name="all time", rate=12_345.6))))
    head, minute, ever = shown.rows
    assert head == ["", "requests", "req/s", "errors", "p50", "p95", "p99", "queue p95", "batch", "answers"]
    assert minute == [
        "1 minute", "12,345", "206", "67", "0.42 ms", "12.3 ms", "1,234 ms", "0.25 ms", "3.14",
        "benign 75 %, malignant 24 %, missing 1 %",
    ]  # fmt: skip
    assert ever[2] == "12,346"


def test_without_requests_there_are_dashes() -> None:
    _, *rows = Cells(metrics_html(EMPTY)).rows
    assert [row[0] for row in rows] == ["1 minute", "5 minutes", "1 hour", "all time"]
    assert {tuple(row[1:]) for row in rows} == {("0", "0", "0", "—", "—", "—", "—", "—", "")}


def test_without_windows_there_is_a_line() -> None:
    metrics = of(requests=1234, errors=1, p50=1.25, p99=140.0)
    words = "1,234 requests, 1 error; in the last minute 0 requests, 0 errors, p50 1.25 ms, p99 140 ms"
    assert Cells(metrics_html(metrics)).beside == metrics.words == words


def test_no_value_is_broken_over_two_lines() -> None:
    html = metrics_html(of(BUSY))
    assert html.count("white-space: nowrap") == 8 + 1 + 8 + 3  # titles, the window, its figures, each answer
    assert html.count("<span") == 3


def test_a_window_is_asked_for_by_its_name() -> None:
    assert of(BUSY).over("1 minute") is BUSY
    with pytest.raises(InvalidInputError, match="There is no window '2 minutes'; did you mean '1 minute'"):
        of(BUSY).over("2 minutes")


def test_in_a_terminal_it_is_one_line() -> None:
    busy = of(BUSY, requests=12_345, errors=67, window_requests=1, rate=0.5, p50=0.42, p95=2.0, p99=7.0)
    assert repr(busy) == (
        "<MetricsSnapshot: 12,345 requests, 67 errors; in the last minute 1 request, 0 errors, p50 0.42 ms, "
        "p95 2 ms, p99 7 ms>"
    )
    assert repr(BUSY) == "<1 minute: 12,345 requests, 67 errors, p50 0.42 ms, p95 12.3 ms, p99 1,234 ms>"


@pytest.mark.parametrize(
    ("at", "told", "look"),
    [
        (None, "Last error: ValueError: no", "mlnb-failure"),
        (995.0, "Last error, 5 s ago: ValueError: no", "mlnb-failure"),
        (800.0, "Last error, 3 min ago: ValueError: no", "mlnb-muted"),
    ],
)
def test_the_last_error_says_when_and_is_no_alarm_for_long(at: float | None, told: str, look: str) -> None:
    html = last_error(of(last_error="ValueError: no", last_error_at=at), now=1000.0)
    assert html == f'<span class="{look}">{told}</span>'
    assert last_error(EMPTY, now=1000.0) == ""
    assert "Last error at " in metrics_html(of(BUSY, last_error="no", last_error_at=1000.0))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([Answers(version=3, count=4, numbers=(0.0, 1.0, 2.0, 3.14159, 4.0, 5.0, 6.0))], "3.142 (1 to 5)"),
        ([Answers(version=1, count=1, classes={"a": 1}), Answers(version=2, count=2, classes={"b": 2})],
         "v1: a 100 %; v2: b 100 %"),
        ([Answers(version=1, count=4, classes={"a": 1, "b": 1, "c": 1, "d": 1})], "a 25 %, b 25 %, c 25 %"),
        ([Answers(version=1, count=3, missing=3)], "missing 100 %"),
        ([Answers(version=1)], ""),
        ([Answers(version=1, count=1, classes={"long" * 9: 1})], "longlonglonglonglonglon… 100 %"),
    ],
)  # fmt: skip
def test_answers_in_a_few_words(answers: list[Answers], words: str) -> None:
    assert Cells(metrics_html(of(replace(BUSY, answers=tuple(answers))))).rows[1][-1] == words


def test_what_clients_and_models_say_is_text() -> None:
    hostile = "<script>alert(1)</script>"
    answers = (Answers(version=1, count=1, classes={hostile: 1}),)
    html = metrics_html(of(replace(BUSY, answers=answers), last_error=hostile))
    assert "<script" not in html
    assert Cells(html).rows[1][-1] == f"{hostile[:23]}… 100 %"
    assert Cells(html).beside == f"Last error: {hostile}"


def test_it_is_well_formed() -> None:
    check(metrics_html(of(BUSY, last_error="ValueError: no")))
