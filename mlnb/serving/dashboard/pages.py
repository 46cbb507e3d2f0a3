"""``/dashboard``: the page, its parts, and what it asks for each second."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING
from zlib import crc32

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from mlnb.monitoring.figures import plotly_javascript
from mlnb.serving.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.applications import Starlette
    from starlette.requests import Request

    from mlnb.monitoring.view import MonitorView

__all__ = ["WINDOWS", "add_dashboard", "compressed_plotly", "page", "resource"]

WINDOWS = (300, 3600)  # seconds
_HEADERS = {
    # plotly.js sets styles; nothing else may come from anywhere but this server.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_JAVASCRIPT = "text/javascript; charset=utf-8"
_NO_PLOTLY = "The charts need plotly where the model is served: pip install plotly"


def add_dashboard(app: Starlette, views: Callable[[int], Sequence[MonitorView]]) -> None:
    """Add the dashboard's routes to ``app``.

    All its URLs are relative, so that it works behind a proxy too. It says nothing that a model said or was sent.

    Parameters
    ----------
    app : Starlette
    views : callable
        Takes the seconds that are looked at, 300 or 3600, and returns a view of each deployment; called on the loop.
    """

    async def whole(_: Request) -> Response:
        return Response(page(), headers=_HEADERS, media_type="text/html; charset=utf-8")

    async def script(_: Request) -> Response:
        return Response(resource("board.js", "page.js"), headers=_HEADERS, media_type=_JAVASCRIPT)

    async def style(_: Request) -> Response:
        return Response(resource("page.css", "board.css"), headers=_HEADERS, media_type="text/css; charset=utf-8")

    async def data(request: Request) -> Response:
        from mlnb.serving.dashboard.messages import message

        asked = request.query_params
        window = _window(asked.get("window", ""))
        body = message(views(window), model=asked.get("model") or None, known=asked.get("known", ""), window=window)
        headers = _HEADERS | {"Cache-Control": "no-store"}
        return Response(body, headers=headers, media_type="application/json")

    async def plotly(request: Request) -> Response:
        return await _plotly(request)

    parts = {"": whole, "/page.js": script, "/page.css": style, "/data": data, "/plotly.js": plotly}
    for path, endpoint in parts.items():
        app.router.routes.append(Route(f"/dashboard{path}", endpoint, methods=["GET"], include_in_schema=False))


def page() -> bytes:
    """Return the page; its parts and its data it asks for by itself."""
    return resource("page.html").encode()


def resource(*names: str) -> str:
    """Return files of this package, one after the other."""
    folder = files("mlnb.serving.dashboard")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


@cache
def compressed_plotly() -> bytes:
    """Return the plotly.js that the plotly package carries, gzipped (about 1.5 MB); made once.

    Raises
    ------
    ImportError
        If plotly is not installed.
    """
    return gzip.compress(plotly_javascript().encode(), compresslevel=5, mtime=0)


async def _plotly(request: Request) -> Response:
    try:
        packed = await run_in_threadpool(compressed_plotly)
    except ImportError:
        return problem(404, "Not found", _NO_PLOTLY)
    tag = f'"{crc32(packed):08x}"'
    headers = _HEADERS | {"Cache-Control": "private, max-age=3600", "ETag": tag, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=_JAVASCRIPT)
    plain = await run_in_threadpool(gzip.decompress, packed)
    return Response(plain, headers=headers, media_type=_JAVASCRIPT)


def _window(text: str) -> int:
    return int(text) if text in map(str, WINDOWS) else WINDOWS[0]
