"""A bucket to test against: moto's S3 server, in a process of its own, over HTTP.

Run as a program it is that server. moto looks whether a key is there and then writes it, and lets others in between
(``put_object`` in ``moto/s3/responses.py``), where S3 itself decides in one step; a lock around moto makes up for that.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """The port of an S3 server on loopback."""
    from waiting import free_port, is_open, wait_until

    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COVERAGE_"))}
    server = subprocess.Popen(
        [sys.executable, __file__, str(port)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: is_open(port), seconds=60)
        yield port
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def s3_environment(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the test server: neither credentials nor proxies of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower() in {"http_proxy", "https_proxy", "all_proxy"}:
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3_url(s3_port: int, s3_environment: None) -> str:
    """A prefix in a new bucket of the test server."""
    bucket = f"mlnb-{secrets.token_hex(6)}"
    request = urllib.request.Request(f"http://127.0.0.1:{s3_port}/{bucket}", method="PUT")
    urllib.request.urlopen(request).close()  # noqa: S310 (loopback)
    return f"s3://{bucket}/team.a/models"


def one_at_a_time(application: Application) -> Application:
    """Let ``application`` decide on each request before it sees the next, as S3 does for one key."""
    lock = Lock()

    def call(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with lock:
            answer = application(environ, start)
            try:
                return [b"".join(answer)]
            finally:
                getattr(answer, "close", lambda: None)()

    return call


class Faults:
    """What S3 may answer and moto never does, asked for by a key's name: once each, but for ``denied``."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._seen: set[tuple[str, str]] = set()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        name = path.rpartition("/")[2]
        if name.startswith("denied"):
            return _refuse(environ, start, HTTPStatus.FORBIDDEN, "AccessDenied")
        first = (method, path) not in self._seen
        self._seen.add((method, path))
        if first and method == "PUT" and name.startswith("raced"):
            return _refuse(environ, start, HTTPStatus.CONFLICT, "ConditionalRequestConflict")
        if first and method == "PUT" and name.startswith("lost"):
            list(self._application(environ, lambda *_: None))  # written, and nobody hears of it
            environ["CONTENT_LENGTH"] = "0"
            return _refuse(environ, start, HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError")
        answer = self._application(environ, start)
        return _break_off(answer) if first and method == "GET" and name.startswith("cut") else answer


def _refuse(environ: dict[str, Any], start: Callable[..., Any], status: HTTPStatus, code: str) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body = f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()
    start(f"{status.value} {status.phrase}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _break_off(answer: Iterable[bytes]) -> Iterator[bytes]:
    content = b"".join(answer)
    yield content[: len(content) // 2]
    raise ConnectionError


def serve(port: int) -> None:
    """Serve S3 on loopback until the process is ended."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import run_simple

    application = Faults(one_at_a_time(DomainDispatcherApplication(create_backend_app)))
    run_simple("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    serve(int(sys.argv[1]))
