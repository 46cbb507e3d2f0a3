"""How far something has come, in a notebook, a terminal and a log."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from mlnb.packaging.progress import Progress, printed


def test_a_log_gets_the_last_line_and_a_notebook_each_in_the_same_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    news = [Progress(step="build", text="step 1\nof 2"), Progress(step="build", text="iris:3, 488 MB", state="done")]
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    for one in news:
        printed(one)
    assert capsys.readouterr().out.split() == ["build:", "iris:3,", "488", "MB"]
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    for one in news:
        printed(one)
    first, second = capsys.readouterr().out.lstrip("\r").split("\r")
    assert first.strip() == "build: step 1 of 2"
    assert second.endswith("\n")
    assert len(first) == len(second.rstrip("\n"))
