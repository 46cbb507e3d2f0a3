from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from fitted import Fitted

import mlnb
from mlnb import ModelRegistry


def test_replicas_of_a_version_in_a_bucket_share_one_copy_on_disk(
    s3_url: str, tumour: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = tmp_path / "config" / "mlnb" / "trusted"
    registry = ModelRegistry(s3_url)
    registry.register(tumour.model, "other")  # so that the numbers differ from those of the copy
    for _ in range(2):
        registry.register(tumour.model, "tumour", example=tumour.rows)
    trusted = sorted(settings.iterdir())
    with mlnb.deploy("tumour:2", registry=registry, replicas=2) as deployment:
        assert (deployment.predict(tumour.rows) == tumour.predictions).all()
        assert deployment.answer(tumour.rows[:1]).version.number == 2
        copies = [one for one in tmp_path.glob("mlnb-*") if not (one / "s").is_socket()]
        assert len(copies) == 1
    assert not list(tmp_path.glob("mlnb-*"))
    assert sorted(settings.iterdir()) == trusted
