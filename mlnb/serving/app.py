"""The HTTP routes, over whatever is deployed at the moment of a request."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from hmac import compare_digest
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mlnb.errors import MalformedBodyError, TooLargeError
from mlnb.serving import problems
from mlnb.serving.codecs import MAX_BODY_BYTES, to_json
from mlnb.serving.dashboard import add_dashboard
from mlnb.serving.feedback import read_feedback
from mlnb.serving.inference_v2 import model_metadata, server_metadata
from mlnb.serving.instance import INSTANCE
from mlnb.serving.openapi import paths_of
from mlnb.serving.predicting import Routes, find, find_only
from mlnb.serving.prometheus import exposition
from mlnb.serving.readings import PublicViews, exposed_of, public

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from mlnb.registry import ModelVersion
    from mlnb.serving.predicting import Served

__all__ = ["create_app", "describe"]

_DOCS_FILES = "static-offline-docs"  # where FastAPIOffline puts them


def create_app(served: Mapping[str, Served], *, is_ready: Callable[[], bool] = lambda: True) -> FastAPI:
    """Return the app over a live view of the deployments by name.

    Parameters
    ----------
    served : mapping of str to Served
    is_ready : callable
        Whether the server takes new work: not any more, once it is about to end.
    """
    app = FastAPIOffline(docs_url=None, redoc_url=None, title="mlnb", version=package_version("mlnb"))
    app.router.redirect_slashes = False  # what is not there is a problem document
    problems.install(app)
    app.openapi = lambda: _openapi(app, served)  # type: ignore[method-assign]  # FastAPI's own way to replace it

    _add_docs(app)

    @app.get("/livez", tags=["server"], summary="The server runs")
    async def livez(request: Request) -> Response:
        return _livez(request.query_params.get("instance", ""))

    @app.get("/readyz", tags=["server"], summary="At least one model is ready, and the server is not about to end")
    async def readyz() -> Response:
        names = sorted(name for name, one in dict(served).items() if one.service.ready)
        if not is_ready():
            return _json({"status": "ending", "models": names}, status=503)
        return _json(
            {"status": "ready" if names else "no model is ready", "models": names}, status=200 if names else 503
        )

    @app.get("/models", include_in_schema=False)
    async def models() -> Response:
        return _json({"models": sorted(served)})

    @app.get("/models/{name}", include_in_schema=False)
    @app.get("/models/{name}/info", include_in_schema=False)
    async def info(name: str) -> Response:
        service = find(served, name).service
        shares = {} if service.split is None else {"shares": service.shares}
        return _json(describe(service.version) | shares)

    @app.get("/model/info", include_in_schema=False)
    async def info_only() -> Response:
        return _json(describe(find_only(served).service.version))

    predict = _Predict(served)
    for path in ("/models/{name}/predict", "/predict", "/v2/models/{name}/infer",
                 "/v2/models/{name}/versions/{number}/infer"):  # fmt: skip
        app.router.routes.append(Route(path, predict, methods=["POST"], include_in_schema=False))
    _add_feedback(app, served)
    _add_monitoring(app, served)
    _add_inference_v2(app, served, is_ready)
    return app


def _add_docs(app: FastAPI) -> None:
    """Add the pages about the others. All URLs are relative: a proxy's prefix goes before them by itself."""

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("docs")

    @app.get("/docs/", include_in_schema=False)
    async def docs_with_a_slash() -> Response:
        return RedirectResponse("../docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="openapi.json", title=app.title, swagger_js_url=f"{_DOCS_FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{_DOCS_FILES}/swagger-ui.css", swagger_favicon_url=f"{_DOCS_FILES}/favicon.png",
        )  # fmt: skip


def _livez(instance: str) -> Response:
    """Answer, and tell a page that knows this server's instance that it has found it; others may not even read it."""
    if not compare_digest(instance.encode(), INSTANCE.encode()):
        return _json({"status": "live"})
    response = _json({"status": "live", "instance": INSTANCE})
    response.headers["Access-Control-Allow-Origin"] = "*"  # a notebook's page has another port, so another origin
    return response


def _add_monitoring(app: FastAPI, served: Mapping[str, Served]) -> None:
    """Add where it is told what the models did."""

    @app.get("/models/{name}/stats", include_in_schema=False)
    async def stats(name: str) -> Response:
        snapshot = asdict(public(find(served, name).observer.monitor.snapshot(now=time.time(), windows=True)))
        del snapshot["last_error"]
        return _json(snapshot)

    @app.get("/metrics", tags=["server"], summary="What the models did, for Prometheus")
    async def metrics(request: Request) -> Response:
        exposed = [exposed_of(name, one) for name, one in sorted(dict(served).items())]
        text, content_type = exposition(exposed, accept=request.headers.get("accept", ""))
        return Response(text, media_type=content_type)

    add_dashboard(app, PublicViews(served))


def _add_feedback(app: FastAPI, served: Mapping[str, Served]) -> None:
    """Add where it is said what became of requests."""

    @app.post("/models/{name}/feedback", include_in_schema=False)
    async def feedback(name: str, request: Request) -> Response:
        labels = read_feedback(_parsed(await _read(request)))
        return _json({"model": name, "noted": await find(served, name).observer.label(labels)})


def _add_inference_v2(app: FastAPI, served: Mapping[str, Served], is_ready: Callable[[], bool]) -> None:
    """Add what clients of the Open Inference Protocol v2 ask before they infer."""

    @app.get("/v2", include_in_schema=False)
    async def server() -> Response:
        return _json(server_metadata())

    @app.get("/v2/health/live", include_in_schema=False)
    async def live() -> Response:
        return _json({"live": True})

    @app.get("/v2/health/ready", include_in_schema=False)
    async def ready() -> Response:
        good = is_ready() and any(one.service.ready for one in dict(served).values())
        return _json({"ready": good}, status=200 if good else 503)

    @app.get("/v2/models/{name}", include_in_schema=False)
    @app.get("/v2/models/{name}/versions/{number}", include_in_schema=False)
    async def model(name: str, number: str | None = None) -> Response:
        version = find(served, name, number).service.version
        return _json(model_metadata(version, versions=[str(version.number)]))

    @app.get("/v2/models/{name}/ready", include_in_schema=False)
    @app.get("/v2/models/{name}/versions/{number}/ready", include_in_schema=False)
    async def model_ready(name: str, number: str | None = None) -> Response:
        good = find(served, name, number).service.ready
        return _json({"name": name, "ready": good}, status=200 if good else 503)


def describe(version: ModelVersion) -> dict[str, Any]:
    """Return what ``GET info`` says of a version, as plain values."""
    return {
        "model": version.name,
        "version": version.number,
        "created": version.created.isoformat(),
        "description": version.description,
        "metrics": version.metrics,
        "model_type": version.model_type,
        "size": version.size,
        "signature": version.signature.to_json(),
        "example": version.signature.example,
    }


class _Predict:
    """The routes to predict, as plain ASGI: what does not come on the fast path is answered the same here."""

    def __init__(self, served: Mapping[str, Served]) -> None:
        self._served = served
        self._routes = Routes(served)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        handler = self._routes(scope["path"].encode())
        if handler is None:
            parameters = request.path_params
            find(self._served, parameters["name"], parameters.get("number")) if parameters else find_only(self._served)
            raise HTTPException(404)
        inquiry = _Inquiry(request, await _read(request))
        handler(inquiry)
        watching = asyncio.create_task(inquiry.watch())
        try:
            response = await inquiry.response
        finally:
            watching.cancel()
        await response(scope, receive, send)


class _Inquiry:
    """A request that came through ASGI."""

    def __init__(self, request: Request, body: bytes) -> None:
        self.query: bytes = request.scope["query_string"]
        self.body = body
        self.gone = False
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._headers = request.headers
        self._receive = request.receive

    def header(self, name: bytes) -> bytes:
        return self._headers.get(name.decode("latin-1"), "").encode("latin-1")

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        if not self.response.done():
            pairs = (line.split(b": ", 1) for line in headers.splitlines())
            response = Response(body, status)
            response.raw_headers += [(name, value) for name, value in pairs]
            self.response.set_result(response)

    async def watch(self) -> None:
        """Notice that the client has left."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self.response.cancel()


async def _read(request: Request) -> bytes:
    """Return the body, or refuse it as soon as it is too large."""
    declared = int(request.headers.get("content-length", 0))
    chunks: list[bytes] = []
    size = 0
    if declared <= MAX_BODY_BYTES:
        try:
            async for chunk in request.stream():
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    break
        except ClientDisconnect:
            raise MalformedBodyError("The client went away before its body was complete.") from None
    if max(size, declared) > MAX_BODY_BYTES:
        raise TooLargeError(
            f"The body has more than {MAX_BODY_BYTES // 2**20} MiB; send the rows in parts.", accepted=MAX_BODY_BYTES
        )
    return b"".join(chunks)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(f"The body is not JSON: {error}.") from None


def _json(document: object, *, status: int = 200) -> Response:
    return Response(to_json(document), status, media_type="application/json")


def _openapi(app: FastAPI, served: Mapping[str, Served]) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes, servers=[{"url": "."}])
    versions = [one.service.version for _, one in sorted(dict(served).items())]
    schema["paths"] = paths_of(versions) | schema["paths"]
    return schema
