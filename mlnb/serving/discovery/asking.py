"""Asking a process what it serves, or to do something, at the socket that its record names."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mlnb.errors import DeadlineError, MlnbError, StoppedError, TooLargeError, UnauthorizedError

if TYPE_CHECKING:
    from mlnb.serving.discovery.record import ServerRecord

__all__ = ["MOST_ASKED", "ask", "peer_of"]

MOST_ASKED = 64 * 1024  # bytes of a question
_MOST_ANSWERED = 8 * 1024 * 1024
_CREDENTIALS = struct.Struct("3i")  # as struct ucred: pid, uid, gid


async def ask(record: ServerRecord, request: dict[str, Any], *, timeout: float) -> dict[str, Any]:  # noqa: ASYNC109 - of all of it, with words of its own
    """Send a request to a process and return its answer, be that a refusal.

    Parameters
    ----------
    record : ServerRecord
        One that is trusted.
    request : dict
        For instance ``{"do": "list"}`` or ``{"do": "stop", "name": "iris"}``.
    timeout : float
        Seconds.

    Returns
    -------
    dict
        ``{"deployments": [...]}``, ``{"notice": "..."}`` or ``{"error": "...", "status": 409}``.

    Raises
    ------
    StoppedError
        If nobody listens there any more.
    DeadlineError
        If there is no answer in time.
    UnauthorizedError
        If another process listens there.
    MlnbError
        If what it answers is none.
    """
    try:
        async with asyncio.timeout(timeout):
            answer = await _answer_of(record, request)
    except MlnbError:  # some of which are an OSError
        raise
    except TimeoutError:
        raise DeadlineError(f"Process {record.pid} has not answered within {timeout:g} s; it may be busy.") from None
    except OSError as error:
        raise StoppedError(f"Process {record.pid} serves no more: {error.strerror or error}.") from None
    return _read(record, answer)


async def _answer_of(record: ServerRecord, request: dict[str, Any]) -> bytes:
    reader, writer = await asyncio.open_unix_connection(sock=_connected(record), limit=_MOST_ANSWERED)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        return await reader.readline()
    except ValueError:
        raise TooLargeError(
            f"Process {record.pid} answers more than {_MOST_ANSWERED // 2**20} MiB; so much is not read."
        ) from None
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


def _connected(record: ServerRecord) -> socket.socket:
    """Return a socket whose other end is the process itself."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(0)
        sock.connect(record.socket)
        _check_peer(sock, record)
    except BlockingIOError:  # what waits to be accepted there is more than the system keeps
        sock.close()
        raise TimeoutError from None
    except BaseException:
        sock.close()
        raise
    return sock


def _check_peer(sock: socket.socket, record: ServerRecord) -> None:
    if peer_of(sock) not in (None, (record.pid, os.geteuid())):
        raise UnauthorizedError(f"Another process answers at the socket of process {record.pid}; nothing was said.")


def peer_of(sock: socket.socket) -> tuple[int, int] | None:
    """Return the pid and the uid of the process at the other end, None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def _read(record: ServerRecord, answer: bytes) -> dict[str, Any]:
    if not answer:
        raise StoppedError(f"Process {record.pid} has ended before it answered.")
    try:
        read = json.loads(answer)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise MlnbError(f"What process {record.pid} answers cannot be read.")
    return read
