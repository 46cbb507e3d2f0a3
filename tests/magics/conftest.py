from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fitted import Fitted
from IPython.core.interactiveshell import InteractiveShell


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tumour: Fitted) -> Iterator[Any]:
    """IPython with the extension loaded, and a fitted model in its namespace."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)  # IPython warns of one that is active and not this one
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    assert shell.history_manager is not None
    shell.history_manager.enabled = False
    shell.run_line_magic("load_ext", "mlnb")
    shell.user_ns.update({"model": tumour.model, "X_train": tumour.rows, "scores": {"accuracy": 0.97}})
    yield shell
    shell.run_line_magic("unload_ext", "mlnb")
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()
