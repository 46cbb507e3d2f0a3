"""The HTTP routes, over whatever is deployed at the moment of a request."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from mlnb.errors import AmbiguousDeploymentError, MalformedBodyError, NotDeployedError, TooLargeError, nearest
from mlnb.serving import problems
from mlnb.serving.codecs import MAX_BODY_BYTES, decoder_for, encode_answer, to_json
from mlnb.serving.openapi import paths_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from mlnb.monitoring import ModelMonitor
    from mlnb.registry import ModelVersion
    from mlnb.serving.service import ModelService

__all__ = ["Served", "create_app", "describe"]


@dataclass(frozen=True, slots=True)
class Served:
    """One deployment, as the app sees it."""

    service: ModelService
    monitor: ModelMonitor


def create_app(served: Mapping[str, Served]) -> FastAPI:
    """Return the app over a live view of the deployments by name."""
    app = FastAPIOffline(title="mlnb", version=package_version("mlnb"), redoc_url=None, openapi_url="/openapi.json")
    problems.install(app)
    app.add_middleware(_ForwardedPrefix)
    app.openapi = lambda: _openapi(app, served)  # type: ignore[method-assign]  # FastAPI's own way to replace it

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")

    @app.get("/livez", tags=["server"], summary="The server runs")
    async def livez() -> Response:
        return _json({"status": "live"})

    @app.get("/readyz", tags=["server"], summary="At least one model is ready")
    async def readyz() -> Response:
        names = sorted(served)
        status = "ready" if names else "no model is deployed"
        return _json({"status": status, "models": names}, status=200 if names else 503)

    @app.post("/models/{name}/predict", include_in_schema=False)
    async def predict(request: Request, name: str) -> Response:
        return await _predict(request, _find(served, name))

    @app.get("/models", include_in_schema=False)
    async def models() -> Response:
        return _json({"models": sorted(served)})

    @app.get("/models/{name}", include_in_schema=False)
    @app.get("/models/{name}/info", include_in_schema=False)
    async def info(name: str) -> Response:
        return _json(describe(_find(served, name).service.version))

    @app.get("/models/{name}/stats", include_in_schema=False)
    async def stats(name: str) -> Response:
        snapshot = asdict(_find(served, name).monitor.snapshot(now=time.time()))
        del snapshot["last_error"]  # the model's own words are for its owner
        return _json(snapshot)

    @app.post("/predict", include_in_schema=False)
    async def predict_only(request: Request) -> Response:
        return await _predict(request, _find_only(served))

    @app.get("/model/info", include_in_schema=False)
    async def info_only() -> Response:
        return _json(describe(_find_only(served).service.version))

    return app


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


async def _predict(request: Request, served: Served) -> Response:
    body = await _read(request)
    decode = decoder_for(
        request.headers.get("content-type", ""), body, probabilities=_flag(request.query_params.get("probabilities"))
    )
    answer = await asyncio.wrap_future(served.service.submit(decode))
    return Response(encode_answer(answer), media_type="application/json")


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


def _flag(text: str | None) -> bool:
    if text in (None, "0", "false"):
        return False
    if text in ("", "1", "true"):
        return True
    raise MalformedBodyError(f"The query 'probabilities' is true or false, not {text!r}.")


def _find(served: Mapping[str, Served], name: str) -> Served:
    try:
        return served[name]
    except KeyError:
        raise NotDeployedError(f"No model {name!r} is deployed here; {nearest(name, list(served))}.") from None


def _find_only(served: Mapping[str, Served]) -> Served:
    models = dict(served)
    if len(models) == 1:
        return next(iter(models.values()))
    if not models:
        raise NotDeployedError("No model is deployed here.")
    raise AmbiguousDeploymentError(
        f"This server has {len(models)} models: {', '.join(sorted(models))}. "
        "Use /models/NAME/predict and /models/NAME/info.",
        models=sorted(models),
    )


def _json(document: object, *, status: int = 200) -> Response:
    return Response(to_json(document), status, media_type="application/json")


def _openapi(app: FastAPI, served: Mapping[str, Served]) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    versions = [one.service.version for _, one in sorted(dict(served).items())]
    schema["paths"] = paths_of(versions) | schema["paths"]
    return schema


class _ForwardedPrefix:
    """Serve under the path that a proxy on this machine names in ``X-Forwarded-Prefix``.

    jupyter-server-proxy strips ``/proxy/PORT`` and says so in that header; with it as the root path, /docs finds its
    schema and its files. Anybody else's header is ignored.
    """

    _PATH = re.compile(r"(/[\w.~%@+-]+)+/?")

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (prefix := self._prefix(scope)):
            scope = dict(scope)
            scope["root_path"] = prefix
            scope["path"] = prefix + scope["path"]
            scope["raw_path"] = prefix.encode() + scope["raw_path"]
        await self._app(scope, receive, send)

    def _prefix(self, scope: Scope) -> str:
        client = scope.get("client")
        if client is None or client[0] not in ("127.0.0.1", "::1"):
            return ""
        for name, value in scope["headers"]:
            if name == b"x-forwarded-prefix":
                text: str = value.decode("latin-1")
                return text.rstrip("/") if self._PATH.fullmatch(text) else ""
        return ""
