"""A deployment's snapshot to draw, and a look at the HTML that comes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any

from mlnb.monitoring import MetricsSnapshot
from mlnb.registry import ModelVersion
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.version import StoredFile
from mlnb.workspace import DeploymentSnapshot

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOSTILE = '"><script>alert(1)</script>'
VOID = {"input", "br", "meter", "img", "path", "rect", "polyline", "circle"}


def version(number: int = 2, *, example: Any = ((1.5, 2.0),), description: str = "first") -> ModelVersion:
    signature = replace(infer_signature(None, example), labels=("benign", "malignant"))
    return ModelVersion(
        name="tumour", number=number, created=NOW, metrics={"accuracy": 0.97}, description=description,
        model_type="Forest", format="joblib", files=(StoredFile("model", "ab" * 32, 81_000),),
        signature_digest="cd" * 32, golden_digest=None, parameters={}, environment={"python": "3.11"}, lineage={},
        read_signature=lambda _: signature,
    )  # fmt: skip


def metrics(**changes: Any) -> MetricsSnapshot:
    idle = MetricsSnapshot(
        requests=0, errors=0, rows=0, window=60, rate=0.0, window_requests=0, window_errors=0, p50=None, p99=None,
        last_error=None, last_error_at=None, recent=(0,) * 60,
    )  # fmt: skip
    return replace(idle, **changes)


def snapshot(**changes: Any) -> DeploymentSnapshot:
    live = DeploymentSnapshot(
        name="tumour", url="http://127.0.0.1:8000/models/tumour", docs_url="http://127.0.0.1:8000/docs",
        place="in kernel", state="live", version=version(), since=NOW - timedelta(minutes=3), at=NOW,
        versions=(version(2), version(1)), previous=1,
        metrics=metrics(),
    )  # fmt: skip
    return replace(live, **changes)


class Balance(HTMLParser):
    """Fails on a tag that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, _: Any) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def text(html: str) -> str:
    """Return what one reads in ``html``, which is well formed."""
    check(html)
    return " ".join(unescape(re.sub("<[^>]+>", " ", html)).split())


def check(html: str) -> list[str]:
    """Return the tags of ``html``, which is well formed and has no script."""
    parser = Balance()
    parser.feed(html)
    assert parser.open == []
    assert "script" not in parser.seen
    return parser.seen
