"""A bounded load test of an endpoint on this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from mlnb.errors import InvalidInputError, MlnbError
from mlnb.monitoring.load.generator import OVERHEAD, Target
from mlnb.monitoring.load.result import BenchmarkResult
from mlnb.monitoring.load.step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["run"]

MOST_CONNECTIONS = 256
LONGEST_STEP = 30.0  # seconds
LONGEST_RUN = 300.0  # seconds
_CONNECTIONS = (1, 2, 4, 8, 16, 32, 64)
_HIGHEST_RATE = 1e6  # requests per second


def run(
    url: str,
    body: bytes,
    *,
    content_type: str = "application/json",
    connections: Sequence[int] = _CONNECTIONS,
    seconds: float = 1.0,
    rate: float | None = None,
    patience: float = 10.0,
) -> BenchmarkResult:
    """Send requests to an endpoint on this machine from a child process, and count what comes back.

    Parameters
    ----------
    url : str
        What to POST to, for instance ``http://127.0.0.1:8000/models/iris/predict``. Only loopback is accepted.
    body : bytes
        Of every request.
    content_type : str
    connections : sequence of int
        Kept-alive connections of each step, at most 256. They are taken in ascending order, each once.
    seconds : float
        How long each step is counted, at most 30; a short warm-up precedes it.
    rate : float, optional
        Requests per second that are offered whatever comes back, spread over the connections of a step; the latency
        counts from the moment when each was due, so that a stalled endpoint cannot hide its waits. Default: each
        connection sends its next request when its last one is answered.
    patience : float
        Seconds that the last answers of a step may take beyond it.

    Raises
    ------
    InvalidInputError
        If the URL is not on this machine, or a bound is exceeded. All steps together may take at most five minutes.
    MlnbError
        If the process that sends the requests ends before it is done.
    """
    target = _target(url, body, content_type)
    numbers = _checked(connections, seconds=seconds, rate=rate, patience=patience)
    plan = {
        "host": target.host, "port": target.port, "size": len(target.request), "connections": numbers,
        "seconds": seconds, "rate": rate, "patience": patience,
    }  # fmt: skip
    return BenchmarkResult(url=url, steps=tuple(_steps(json.dumps(plan), target.request)), rate=rate)


def _target(url: str, body: bytes, content_type: str) -> Target:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError as error:
        raise InvalidInputError(f"{url!r} is no URL: {error}.") from None
    if parts.scheme != "http" or not _is_loopback(host):
        raise InvalidInputError(
            f"A benchmark sends its load only to http on this machine (127.0.0.1, ::1, localhost), not to {url!r}."
        )
    if not (content_type.isascii() and content_type.isprintable()):
        raise InvalidInputError(f"{content_type!r} is no content type.")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
        f"?{quote(parts.query, safe='%=&+')}" * bool(parts.query)
    )
    name = f"[{host}]" if ":" in host else host
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {name}:{port}\r\nuser-agent: mlnb-benchmark\r\n"
        f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return Target(host, port, head.encode() + body)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(connections: Sequence[int], *, seconds: float, rate: float | None, patience: float) -> list[int]:
    numbers = set(connections)
    if not numbers or not all(isinstance(one, int) and 1 <= one <= MOST_CONNECTIONS for one in numbers):
        raise InvalidInputError(f"connections must be whole numbers from 1 to {MOST_CONNECTIONS}, not {connections!r}.")
    if not 0 < seconds <= LONGEST_STEP:
        raise InvalidInputError(f"seconds must be more than 0 and at most {LONGEST_STEP:.0f}, not {seconds!r}.")
    if not 0 < patience <= LONGEST_STEP:
        raise InvalidInputError(f"patience must be more than 0 and at most {LONGEST_STEP:.0f}, not {patience!r}.")
    if rate is not None and not 0 < rate <= _HIGHEST_RATE:
        raise InvalidInputError(f"rate must be more than 0 and at most {_HIGHEST_RATE:,.0f}, not {rate!r}.")
    longest = len(numbers) * (seconds + patience + OVERHEAD)
    if longest > LONGEST_RUN:
        raise InvalidInputError(
            f"{len(numbers)} steps of {seconds:g} s, with {patience:g} s for the last answers of each, may take "
            f"{longest:.0f} s; at most {LONGEST_RUN:.0f} s are accepted. Ask for fewer or shorter ones."
        )
    return sorted(numbers)


def _steps(plan: str, request: bytes) -> Iterator[Step]:
    """Yield each step as the child reports it; however this ends, no child is left."""
    with (
        tempfile.TemporaryFile() as complaint,
        subprocess.Popen(  # noqa: S603 - this Python
            [sys.executable, "-P", "-c", _PROGRAM, str(Path(__file__).parents[3])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaint, start_new_session=True,
        ) as child,
    ):  # fmt: skip
        try:
            assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - for the type checker
            with suppress(BrokenPipeError):  # it ended; its complaint says why
                child.stdin.write(plan.encode() + b"\n" + request)
                child.stdin.flush()
            for line in child.stdout:
                yield Step(**json.loads(line))
            if (code := child.wait()) != 0:
                complaint.seek(0)
                last = complaint.read().decode(errors="replace").strip().splitlines()[-1:]
                raise MlnbError("; ".join([f"The load generator ended with {_named(code)}", *last]) + ".")
        finally:
            child.kill()


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else str(code)


_PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from mlnb.monitoring.load.generator import main
main()
"""
