"""The sidebar, built from its TypeScript when a wheel or a source distribution is: pip calls it, no user does."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from subprocess import CalledProcessError

__all__ = ["build_sidebar"]

_FOLDER = Path(__file__).parent
_STATIC = _FOLDER / "static"
_SOURCES = ("src", "style", "package.json", "package-lock.json", "rspack.config.js")
_WITHOUT = (
    "mlnb is installed without its sidebar for JupyterLab; all else of it works. "
    "For the sidebar, have Node.js 20 or newer and npm in PATH, and install it again."
)
_log = logging.getLogger("hatch_jupyter_builder")


def build_sidebar(target: str, version: str) -> None:
    """Build the sidebar into ``static``, if that is not there or older than its sources.

    Without Node.js, or without a way to its packages, mlnb is installed all the same: the log says so, and later the
    Jupyter server does.

    Parameters
    ----------
    target : str
        What hatch builds: ``wheel`` or ``sdist``.
    version : str
        ``standard`` or ``editable``.
    """
    from hatch_jupyter_builder.utils import npm_builder

    _STATIC.mkdir(exist_ok=True)
    if _is_fresh():
        return
    try:
        npm_builder(target, version, path=str(_FOLDER), npm=["npm"])
    except (ValueError, OSError, CalledProcessError) as error:
        _log.warning("%s (%s)", _WITHOUT, error)
    if not _is_complete():  # half of it would be asked for by every page
        shutil.rmtree(_STATIC)
        _STATIC.mkdir()


def _is_fresh() -> bool:
    from hatch_jupyter_builder.utils import is_stale

    if _FOLDER.parents[1].joinpath("PKG-INFO").is_file():  # of a source distribution, which brings it
        return _is_complete()
    return _is_complete() and not any(is_stale(_STATIC, _FOLDER / source) for source in _SOURCES)


def _is_complete() -> bool:
    try:
        return "_build" in json.loads(_STATIC.joinpath("package.json").read_text())["jupyterlab"]
    except (OSError, ValueError, KeyError):
        return False
