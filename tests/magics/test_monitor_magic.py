from __future__ import annotations

from typing import Any

import pytest
from IPython.core.completer import CompletionContext
from IPython.core.error import UsageError

import mlnb
from mlnb.magics.completion import complete
from mlnb.workspace.dashboard import Dashboard

WIDGET = "application/vnd.jupyter.widget-view+json"


def run(shell: Any, cell: str) -> Any:
    result = shell.run_cell(cell)
    result.raise_error()
    return result.result


@pytest.mark.parametrize(("line", "name"), [("%model_monitor tumour", "tumour"), ("%model_monitor", None)])
def test_it_returns_a_dashboard_that_is_shown_live(shell: Any, line: str, name: str | None) -> None:
    run(shell, "%deploy_model model --name tumour --input X_train --no-panel")
    dashboard = run(shell, line)
    assert isinstance(dashboard, Dashboard)
    assert dashboard.name == name
    shown = shell.display_formatter.format(dashboard)[0]
    assert {WIDGET, "image/svg+xml", "text/plain"} == set(shown)
    again = shell.display_formatter.format(run(shell, line))[0]
    assert again[WIDGET] == shown[WIDGET]  # one widget, however often the cell runs


def test_a_model_that_is_not_deployed_is_one_line(shell: Any) -> None:
    with pytest.raises(UsageError, match="'tumor' is not deployed here"):
        run(shell, "%model_monitor tumor")


def test_a_stopped_model_is_still_shown(shell: Any) -> None:
    deployment = run(shell, "%deploy_model model --name tumour --input X_train --no-panel")
    dashboard = mlnb.monitor("tumour")
    deployment.stop()
    assert dashboard.view().state == "stopped"
    assert "stopped" in repr(dashboard)


def test_names_are_completed(shell: Any) -> None:
    run(shell, "%deploy_model model --name tumour --input X_train --no-panel")
    line = "%model_monitor tu"
    context = CompletionContext(token="tu", full_text=line, cursor_position=len(line), cursor_line=0, limit=None)  # noqa: S106 - no password
    assert [one.text for one in complete(context)["completions"]] == ["tumour"]
