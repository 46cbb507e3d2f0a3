"""JupyterLab's sidebar, and the extension of the Jupyter server that answers it: light, so that Jupyter starts fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__all__: list[str] = []

_SIDEBAR = Path(__file__).parent / "static" / "package.json"


def _load_jupyter_server_extension(serverapp: ServerApp) -> None:
    """Add the routes of the sidebar to a Jupyter server."""
    from mlnb.labextension.handlers import routes

    serverapp.web_app.add_handlers(".*$", routes(serverapp))
    if not _SIDEBAR.is_file():
        serverapp.log.warning(
            "mlnb | the sidebar is not built, so JupyterLab does not show it; all else of mlnb works. "
            "Install Node.js 20 or newer, then run `pip install -e .` in the checkout of mlnb again."
        )
