"""``%load_ext mlnb``: the magics, their completion, and panels for what they return."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from mlnb.magics.completion import complete
from mlnb.magics.display import DeploymentDisplay
from mlnb.magics.magics import ModelMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load", "unload"]

_NEEDED = ("ipywidgets", "anywidget", "plotly")


def load(shell: InteractiveShell) -> None:
    """Register everything with ``shell``; again replaces what is there.

    Raises
    ------
    UsageError
        With the command to run, if the notebook parts are not installed.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"mlnb's notebook parts are not installed ({', '.join(missing)} missing). Run:  %pip install 'mlnb[lab]'"
        )
    unload(shell)
    display = DeploymentDisplay()
    display.register(shell)
    shell.register_magics(ModelMagics(shell=shell, display=display))
    shell.Completer.custom_matchers.append(complete)


def unload(shell: InteractiveShell) -> None:
    """Take the completion, the panels and the name of the notebook away again; what is deployed goes on."""
    if (lineage := sys.modules.get("mlnb.registry.lineage")) is not None:  # else nothing was told
        lineage.tell_notebook(None)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [matcher for matcher in matchers if matcher is not complete]
    DeploymentDisplay.unregister(shell)
