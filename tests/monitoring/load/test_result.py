from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from mlnb.errors import MissingLibraryError
from mlnb.monitoring.load import result
from mlnb.monitoring.load.result import BenchmarkResult
from mlnb.monitoring.load.step import Step

URL = "http://127.0.0.1:8000/models/iris/predict"
REFUSED = "1,250 of 2,950 requests were refused (429 or 503)."
BOTH = "1 of 4 requests was refused (429 or 503).\n1 of 4 requests was not answered well, the first: no answer in time."
FIRST = Step(
    connections=1, seconds=1.0, good=1812, refused=0, failed=0, unsent=0, p50=0.51, p90=0.6, p99=0.9, cpu=0.05,
    failure="",
)  # fmt: skip
STEPS = (
    FIRST,
    replace(FIRST, connections=8, good=5342, p50=1.4, p90=1.9, p99=4.12, cpu=0.21),
    replace(FIRST, connections=64, good=5401, p50=11.9, p90=13.0, p99=31.5, cpu=0.22),
)


def of(*steps: Step, rate: float | None = None) -> BenchmarkResult:
    return BenchmarkResult(url=URL, steps=steps, rate=rate)


def test_as_text() -> None:
    assert repr(of(*STEPS)).splitlines() == [
        "connections  requests/s  p50 ms  p90 ms  p99 ms   good  refused  failed  generator CPU",
        "          1       1,812    0.51    0.60    0.90  1,812        0       0             5%",
        "        ● 8       5,342    1.40    1.90    4.12  5,342        0       0            21%",
        "         64       5,401   11.90   13.00   31.50  5,401        0       0            22%",
        "Takes about 5,300 requests/s at 8 connections (p99 4.1 ms); more connections only wait longer.",
    ]


def test_it_is_a_value() -> None:
    assert of(*STEPS) == of(*STEPS)
    with pytest.raises(FrozenInstanceError):
        of(*STEPS).url = ""  # type: ignore[misc]


def test_throughput_and_requests_of_a_step() -> None:
    step = replace(FIRST, seconds=2.0, refused=3, failed=4)
    assert (step.requests, step.throughput) == (1819, 906.0)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (of(*STEPS[:2]), "Takes at least 5,300 requests/s at 8 connections (p99 4.1 ms); saturation was not reached."),
        (of(FIRST), "Takes at least 1,800 requests/s at 1 connection (p99 0.9 ms); saturation was not reached."),
        (
            of(*(replace(step, cpu=0.97) for step in STEPS)),
            "Takes at least 5,400 requests/s at 64 connections (p99 31.5 ms); the load generator itself was the limit.",
        ),
        (
            of(replace(FIRST, good=1700, refused=1250, p99=215.2, unsent=50), rate=3000.0),
            f"Of 3,000 requests/s offered, 56.7% were answered well at 1 connection (p99 215 ms).\n{REFUSED}",
        ),
        (
            of(replace(FIRST, good=0, failed=2, failure="status 404", p50=None, p90=None, p99=None)),
            "There was no good answer.\n2 of 2 requests were not answered well, the first: status 404 Not Found.",
        ),
        (
            of(replace(FIRST, good=2, refused=1, failed=1, failure="no answer in time")),
            f"Takes at least 2.0 requests/s at 1 connection (p99 0.9 ms); saturation was not reached.\n{BOTH}",
        ),
    ],
)  # fmt: skip
def test_the_verdict(found: BenchmarkResult, said: str) -> None:
    assert found.verdict == said


def test_a_rate_has_no_saturation_and_shows_what_was_not_sent() -> None:
    found = of(*STEPS, rate=5500.0)
    assert found.saturation is None
    assert "unsent" in repr(found)
    assert "●" not in repr(found)


def test_the_decimals_go_when_there_are_many_digits() -> None:
    text = repr(of(replace(FIRST, p99=None, p50=0.5, p90=2345.678)))
    assert "2,345.7" in text
    assert "—" in text


def test_as_html() -> None:
    html = of(*STEPS, replace(FIRST, connections=128, p50=30.0, failed=1, failure="<b>"))._repr_html_()
    assert html.startswith("<p>Takes about 5,300 requests/s")
    assert html.count("<tr>") == 5
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_a_notebook_gets_the_figure_too() -> None:
    bundle = of(*STEPS)._repr_mimebundle_()
    assert list(bundle) == ["text/plain", "text/html", "application/vnd.plotly.v1+json"]
    assert [trace["name"] for trace in bundle["application/vnd.plotly.v1+json"]["data"]] == ["requests", "p99", "p50"]


def test_without_plotly_there_is_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "find_spec", lambda _: None)
    assert list(of(*STEPS)._repr_mimebundle_()) == ["text/plain", "text/html"]
    with pytest.raises(MissingLibraryError, match=r"pip install 'mlnb\[lab\]'"):
        of(*STEPS).figure()
