"""The deadline of a request that names none is the deployment's own."""

from __future__ import annotations

import httpx
import pytest
from loading import Numbered

import mlnb
from mlnb.serving import predicting


@pytest.mark.parametrize("own", [30.0, 0.2])
def test_a_request_waits_as_long_as_its_deployment_says(own: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "DEFAULT_TIMEOUT", 0.3)
    slow = mlnb.deploy(Numbered(1, seconds=0.6), name="slow", example=[[0.5]], timeout=own)
    answer = httpx.post(f"{slow.url}/predict", json={"instances": [[7.0]]}, timeout=20)
    assert answer.status_code == (200 if own > 1 else 504), answer.text
