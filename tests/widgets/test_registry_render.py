from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from mlnb.registry import ModelVersion
from mlnb.registry.card import ModelCard
from mlnb.registry.diff import Subject, compare
from mlnb.registry.proofs.proof import Proof
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.version import StoredFile
from mlnb.widgets.registry_render import render_card, render_live, render_registry, render_registry_static
from mlnb.widgets.registry_snapshot import ModelState, Problem, RegistrySnapshot, View

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOSTILE = '"><script>alert(1)</script>'
VOID = {"input"}
MINUS = "\N{MINUS SIGN}"
PROOF = Proof(portable=True, reason="", rows=32, requirements=("numpy==2.4.0",), python="3.11.7", seconds=1.24)
REGIONS = {"header", "models", "title", "versions", "legend", "comparison", "detail", "read"}


def version(number: int, *, metrics: dict[str, float] | None = None, **changes: Any) -> ModelVersion:
    signature = infer_signature(None, [[1.5, 2.0]])
    known = {"accuracy": 0.9 + number / 100} if metrics is None else metrics
    made = ModelVersion(
        name="tumour", number=number, created=NOW + timedelta(minutes=number), metrics=known, description="first",
        model_type="Forest", format="cloudpickle", files=(StoredFile("model", "ab" * 32, 81_000),),
        signature_digest="cd" * 32, golden_digest=None, parameters={}, environment={"python": "3.11", "packages": {}},
        lineage={}, read_signature=lambda _: signature,
    )  # fmt: skip
    return replace(made, **changes)


def state(*versions: ModelVersion, **changes: Any) -> ModelState:
    return replace(ModelState(name="tumour", versions=versions, aliases={}, proofs={}), **changes)


def snapshot(*models: ModelState, **changes: Any) -> RegistrySnapshot:
    view = View(model=models[0].name if models else None)
    return replace(RegistrySnapshot(url="/home/me/models", at=NOW, models=models, view=view), **changes)


class Page(HTMLParser):
    """Fails on a tag that is closed out of turn, and on a script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(html)
        assert self.open == []
        assert "script" not in self.seen

    def handle_starttag(self, tag: str, _: Any) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def text(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub("<[^>]+>", " ", html))).strip()


def rows(html: str) -> list[str]:
    return [text(row) for row in re.findall("<tr.*?</tr>", html)[1:]]


def test_a_model_with_a_live_version_an_alias_and_a_proof() -> None:
    model = state(
        version(3), version(2), version(1), aliases={"champion": 2, "gone": 9}, proofs={3: PROOF}, live=2, recorded=2,
        url="http://127.0.0.1:8000/models/tumour", docs_url="http://127.0.0.1:8000/docs", previous=1,
    )  # fmt: skip
    regions = render_registry(snapshot(model))
    assert regions.keys() == REGIONS
    for html in regions.values():
        Page(html)
    assert text(regions["header"]) == "Models /home/me/models 1 model Refresh"
    assert text(regions["models"]) == "tumour 3 versions, newest v3 ● v2 @champion v2"
    assert text(regions["title"]) == "tumour v2 live in this kernel http://127.0.0.1:8000/models/tumour Roll back to v1"
    assert 'data-action="rollback" data-reference="tumour:1"' in regions["title"]
    newest, live, oldest = rows(regions["versions"])
    assert newest.startswith("v3 2026-")
    assert newest.endswith("0.93 +0.01 81 kB ✓ portable first Deploy")
    assert live.startswith("v2 ● live @champion 2026-")
    assert live.endswith("0.92 81 kB not proved yet first")
    assert oldest.endswith(f"0.91 {MINUS}0.01 81 kB not proved yet first Deploy")
    assert regions["legend"] == "Differences are against v2, which is live."
    assert (regions["comparison"], regions["detail"]) == ("", "")


def test_what_is_live_by_the_history_alone_is_told_apart() -> None:
    regions = render_registry(snapshot(state(version(2), version(1), recorded=1)))
    assert "○ v1" in regions["models"]
    assert "○ live by history" in rows(regions["versions"])[1]
    assert "Roll back" not in regions["title"]
    assert regions["legend"] == "Differences are against v1, which is live."


def test_without_a_live_version_each_is_measured_against_the_one_before() -> None:
    regions = render_registry(snapshot(state(version(3), version(2, metrics={"accuracy": 0.95}), version(1))))
    assert ["+0.04" in row or f"{MINUS}0.02" in row for row in rows(regions["versions"])] == [True, True, False]
    assert regions["legend"] == "Differences are against the version before."


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        (0.5, 0.5, "0.5 ±0"),
        (0.5, float("nan"), "nan"),
        (1.0, 1e6, "1e+06 +999,999"),
        (100.0, 0.4, f"0.4 {MINUS}100"),
        (0.9, 0.9001, "0.9001 +0.0001"),
    ],
)
def test_differences(before: float, now: float, says: str) -> None:
    model = state(version(2, metrics={"m": now}), version(1, metrics={"m": before}))
    assert f" {says} 81 kB" in rows(render_registry(snapshot(model))["versions"])[0]


def test_a_metric_that_only_one_version_has_and_many_metrics() -> None:
    many = {f"m{number}": float(number) for number in range(6)}
    html = render_registry(snapshot(state(version(2, metrics=many), version(1, metrics={}))))["versions"]
    Page(html)
    assert "m0 m1 m2 m3 more size" in text(html)
    assert "m4 4, m5 5" in rows(html)[0]
    assert "81 kB" in rows(html)[1]


def test_a_version_that_is_not_portable_says_why() -> None:
    broken = replace(PROOF, portable=False, reason=f"it needs {HOSTILE}")
    card = ModelCard(version(1), "/models", (), broken, None, ())
    model = state(version(1), proofs={1: broken})
    regions = render_registry(snapshot(model, view=View(model="tumour", opened=1), card=card))
    assert 'title="it needs &quot;&gt;&lt;script' in regions["versions"]
    assert "✗ Not portable: it needs" in text(regions["detail"])
    Page(regions["detail"])
    Page(regions["versions"])


def test_a_thousand_versions_show_the_newest_fifty() -> None:
    versions = tuple(version(number) for number in range(1000, 0, -1))
    html = render_registry(snapshot(state(*versions)))["versions"]
    assert len(rows(html)) == 50
    assert "Show 50 more 950 older versions" in text(html)
    assert "+0.01" in rows(html)[-1]  # against one that is not shown
    assert len(html) < 60_000
    rest = render_registry(snapshot(state(*versions), view=View(model="tumour", shown=980)))["versions"]
    assert "Show the other 20" in text(rest)
    assert "Show" not in render_registry(snapshot(state(*versions), view=View(model="tumour", shown=1000)))["versions"]


def test_an_opened_version_has_its_card_and_a_form_that_knows_the_aliases() -> None:
    fields = replace(
        version(1).signature, fields=tuple(replace(version(1).signature.fields[0], name=f"f{i}") for i in range(9))
    )
    opened = replace(version(1), read_signature=lambda _: fields)
    model = state(version(2), opened, aliases={"champion": 2, "old": 1}, proofs={})
    card = ModelCard(opened, "/models", ("old",), None, None, ())
    html = render_registry(snapshot(model, view=View(model="tumour", opened=1), card=card))["detail"]
    Page(html)
    assert "Not proved yet" in html
    assert "<summary>Takes <small>9</small></summary>" in html
    assert "<section><h4>Model</h4>" in html
    assert 'data-known="{&quot;champion&quot;:2,&quot;old&quot;:1}"' in html
    assert re.findall('<option value="(.*?)">', html) == ["champion", "challenger", "staging", "production"]
    assert ">Prove</button>" in html
    again = render_registry(snapshot(replace(model, proofs={1: PROOF}), view=View(model="tumour", opened=1)))["detail"]
    assert ">Prove again</button>" in again


def test_a_comparison() -> None:
    diff = compare(Subject(version(1), None, None), Subject(version(2), None, None))
    shown = snapshot(state(version(2), version(1)), view=View(model="tumour", compared=(1, 2)), diff=diff)
    html = render_registry(shown)["comparison"]
    Page(html)
    assert "tumour:1 → tumour:2" in html
    assert 'data-action="uncompare"' in html
    failed = render_registry(replace(shown, diff=Problem("It is <damaged>.")))["comparison"]
    assert "It is &lt;damaged&gt;." in failed


def test_no_models_yet_and_a_registry_that_cannot_be_read() -> None:
    assert "No models yet. Deploy one" in render_registry(snapshot())["versions"]
    unreachable = snapshot(problem="s3://b cannot be <reached>.")
    assert "s3://b cannot be &lt;reached&gt;." in render_registry(unreachable)["versions"]
    assert "s3://b cannot be &lt;reached&gt;." in render_registry_static(unreachable)


def test_a_model_that_cannot_be_read_leaves_the_others() -> None:
    damaged = ModelState(name="broken", aliases={}, proofs={}, problem="00000001.json is damaged.")
    shown = snapshot(damaged, state(version(1)))
    regions = render_registry(shown)
    assert text(regions["models"]) == "broken cannot be read tumour 1 version, newest v1"
    assert text(regions["versions"]) == "00000001.json is damaged."
    static = render_registry_static(shown)
    Page(static)
    assert "<p>broken: 00000001.json is damaged.</p>" in static
    assert "tumour" in static


def test_a_registry_that_is_not_trusted_says_so() -> None:
    assert "not trusted" in text(render_registry(snapshot(state(version(1)), trusted=False))["header"])
    assert "not trusted" not in text(render_registry(snapshot(state(version(1))))["header"])


def test_what_users_write_is_escaped() -> None:
    hostile = version(1, description=HOSTILE, metrics={HOSTILE: 1.0} | {f"m{i}{HOSTILE}": 1.0 for i in range(5)})
    model = state(hostile, version(2), aliases={HOSTILE: 1}, problem="")
    card = ModelCard(hostile, HOSTILE, (HOSTILE,), None, None, ())
    diff = compare(Subject(version(2), None, None), Subject(hostile, None, None))
    shown = snapshot(model, url=HOSTILE, view=View(model="tumour", opened=1, compared=(1, 2)), card=card, diff=diff)
    for html in [*render_registry(shown).values(), render_registry_static(shown), render_card(Problem(HOSTILE))]:
        Page(html)
        assert "<script" not in html


def test_what_became_live_is_said_in_one_line() -> None:
    html = render_live("tumour", 2, 3, url="http://127.0.0.1:8000/models/tumour", docs_url="http://127.0.0.1:8000/docs")
    assert text(html) == "tumour v3 is live; v2 was before. http://127.0.0.1:8000/models/tumour docs ↗"
    assert text(render_live("tumour", None, 3, url="u", docs_url="d")) == "tumour v3 is live. u docs ↗"
