"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from mlnb.errors import MlnbError
from mlnb.serving.codecs import to_json

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

__all__ = ["install", "problem"]

_log = logging.getLogger(__name__)


def problem(status: int, title: str, detail: str, *, headers: Any = None, **members: Any) -> Response:
    """Return a problem answer; ``members`` are its extra fields."""
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail} | members
    return Response(to_json(document), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Let every error of ``app`` answer as a problem."""
    app.add_exception_handler(MlnbError, _mlnb_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)


async def _mlnb_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MlnbError)  # noqa: S101 - for the type checker
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    more = {"error": error.message} if path.startswith("/v2") else {}  # which its clients look for
    return problem(error.status, error.title, error.message, **error.details, **more)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - for the type checker
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    details = {
        HTTPStatus.NOT_FOUND: f"There is no {path} here; /docs lists what there is.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{path} does not take {request.method}; it takes "
        f"{(error.headers or {}).get('Allow', 'another method')}.",
    }
    status = HTTPStatus(error.status_code)
    return problem(status, status.phrase, details.get(status, str(error.detail)), headers=error.headers)


async def _unexpected(_: Request, error: Exception) -> Response:
    _log.error("A request failed", exc_info=error)
    return problem(500, "Internal error", "The server failed on this request; its owner sees the reason in the log.")
