"""Asking what processes serve: many at once, such as are silent, such as say nonsense, and such as are others."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from discovered import deploying, put, record_of
from waiting import wait_until

from mlnb.errors import DeadlineError, MlnbError, StoppedError, TooLargeError, UnauthorizedError
from mlnb.serving.discovery import listing as listing_module
from mlnb.serving.discovery.asking import ask
from mlnb.serving.discovery.listing import Lister, list_live
from mlnb.serving.discovery.live import Listing
from mlnb.serving.discovery.record import ServerRecord
from mlnb.serving.discovery.records import make_socket_folder, remove_socket, trusted
from mlnb.serving.discovery.telling import stop_live


@contextmanager
def answering(with_what: bytes | None) -> Iterator[ServerRecord]:
    """Answer every question so, None: never. The record is this process's own."""
    path = make_socket_folder() / "s"
    held: list[socket.socket] = []

    def answer(listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            held.append(sock)
            if with_what is not None:
                with sock:
                    sock.recv(1 << 16)
                    try:
                        sock.sendall(with_what)
                    except OSError:  # it does not read so much
                        continue

    with ExitStack() as ending:
        listener = ending.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        try:
            yield record_of(os.getpid(), path)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)
            for sock in held:
                sock.close()
            remove_socket(path)


@contextmanager
def never_answering() -> Iterator[ServerRecord]:
    """Run a process that listens and says nothing."""
    path = make_socket_folder() / "s"
    program = "import socket, sys; s = socket.socket(1); s.bind(sys.argv[1]); s.listen(); print(flush=True); input()"
    command = [sys.executable, "-S", "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield record_of(process.pid, path)
        process.kill()
    remove_socket(path)


def asked(record: ServerRecord, *, timeout: float = 20.0) -> dict[str, Any]:
    return asyncio.run(ask(record, {"do": "list"}, timeout=timeout))


def names(listing: Listing) -> list[tuple[str, str]]:
    return [(one.name, one.state) for one in listing.deployments]


def soon(lister: Lister, holds: Callable[[Listing], bool]) -> Listing:
    """List until it is as it should be."""
    found: list[Listing] = []

    def look() -> bool:
        found.append(asyncio.run(lister.list()))
        return holds(found[-1])

    wait_until(look, seconds=30)
    return found[-1]


def test_two_processes_of_which_one_is_held_up_and_then_killed(folder: Path) -> None:
    lister = Lister()
    with deploying("zebra", "iris") as one, deploying("digits") as other:
        listing = soon(lister, lambda listing: len(listing.deployments) == 3)
        assert [(found.name, found.pid) for found in listing.deployments] == [
            ("digits", other.pid), ("iris", one.pid), ("zebra", one.pid),
        ]  # fmt: skip
        iris = listing.deployments[1]
        assert (iris.version, iris.previous, iris.place, iris.errors, iris.alerts) == (1, None, "in kernel", 0, 0)
        assert iris.url == f"http://127.0.0.1:{iris.port}/models/iris"
        assert len(iris.recent) == 60
        assert iris.registry == os.environ["MLNB_HOME"]

        one.send_signal(signal.SIGSTOP)
        states = [("digits", "live"), ("iris", "silent"), ("zebra", "silent")]
        found = soon(lister, lambda listing: names(listing) == states).deployments
        assert replace(found[1], state="live", recent=(), rate=0.0) == replace(iris, recent=(), rate=0.0)
        fresh = soon(Lister(), lambda listing: names(listing) == states).deployments
        assert [each.version for each in fresh] == [1, None, None]
        one.send_signal(signal.SIGCONT)
        soon(lister, lambda listing: all(each.state == "live" for each in listing.deployments))

        sockets = {record.pid: Path(record.socket) for record in trusted(folder)[0]}
        one.kill()
        one.wait()
        assert [each.pid for each in asyncio.run(lister.list()).deployments] == [other.pid]
        assert len(list(folder.iterdir())) == 1
        assert not sockets[one.pid].parent.exists()
        assert sockets[other.pid].exists()

        with answering(b'{"deployments": [{"name": "forged"}]}\n') as mine:
            forged = record_of(other.pid, mine.socket, names=("forged",))
            (path,) = folder.iterdir()
            before = path.read_text()
            put(folder, forged)  # in the place of its own
            assert [each.names for each in trusted(folder)[0]] == [("forged",)]
            with pytest.raises(UnauthorizedError, match="nothing was said"):
                asked(forged)
            assert list_live() == Listing()
            path.write_text(before)

        other.communicate(timeout=60)  # it ends by itself
        assert other.returncode == 0
        assert list(folder.iterdir()) == []
        assert not sockets[other.pid].parent.exists()
        assert list_live() == Listing()


@pytest.mark.alone
def test_a_hundred_deployments_beside_a_silent_process_take_a_second(folder: Path) -> None:
    names_of_many = [f"model-{number:03}" for number in range(100)]
    told = [{"name": name, "version": 3, "recent": [1] * 60} for name in names_of_many]
    with answering(json.dumps({"deployments": told}).encode() + b"\n") as record, never_answering() as silent:
        put(folder, record)
        put(folder, silent)
        began = time.monotonic()
        found = list_live()
        assert time.monotonic() - began < 1.2
        assert names(found) == [("iris", "silent"), *((name, "live") for name in names_of_many)]


def test_a_full_queue_is_silence_as_well(folder: Path) -> None:
    with answering(None) as record, ExitStack() as waiting:
        path = make_socket_folder() / "s"
        waiting.callback(remove_socket, path)
        full = waiting.enter_context(socket.socket(socket.AF_UNIX))
        full.bind(str(path))
        full.listen(0)
        first = waiting.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(str(path))
        with pytest.raises(DeadlineError, match="has not answered within 20 s"):
            asked(record_of(record.pid, path))


def test_answers_that_are_none(folder: Path) -> None:
    wrong: list[tuple[bytes, type[MlnbError]]] = [
        (b"", StoppedError), (b"no JSON\n", MlnbError), (b"[]\n", MlnbError), (b"[" * 100_000 + b"\n", MlnbError),
        (b"x" * (8 * 2**20 + 100) + b"\n", TooLargeError),
    ]  # fmt: skip
    for answer, error in wrong:
        with answering(answer) as record:
            put(folder, record)
            with pytest.raises(error, match=f"rocess {record.pid}"):
                asked(record)
            assert list_live() == Listing()
    with answering(None) as record, pytest.raises(DeadlineError):
        asked(record, timeout=0.05)
    with pytest.raises(StoppedError, match="serves no more"):
        asked(record)


def test_what_cannot_be_understood_is_left_out(folder: Path) -> None:
    told: Any = [
        7, {}, {"name": "../x"}, {"name": None},
        {"name": "iris", "version": "3", "rate": float("nan"), "recent": ["1"], "state": "dead", "url": "http://evil"},
        {"name": "much", "version": 10**400, "rate": 10**400, "recent": [10**400]},
    ]  # fmt: skip
    for deployments, expected in ((told, [("iris", "live"), ("much", "live")]), ("x", []), (None, [])):
        with answering(json.dumps({"deployments": deployments}).encode() + b"\n") as record:
            put(folder, record)
            listing = list_live()
            assert names(listing) == expected
            for one in listing.deployments:
                assert (one.version, one.rate, one.recent) == (None, None, ())
                assert one.url == f"http://127.0.0.1:8000/models/{one.name}"


def test_who_cannot_say_what_it_serves_is_silent(folder: Path) -> None:
    with answering(b'{"error": "It failed.", "status": 500}\n') as record:
        put(folder, record)
        assert names(list_live()) == [("iris", "silent")]


def test_other_processes_than_those_of_some_kernels_are_not_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_module, "_PATIENCE", 60.0)
    with answering(b'{"deployments": [{"name": "iris"}]}\n') as record, never_answering() as silent:
        put(folder, replace(record, kernel="mine"))
        put(folder, replace(silent, kernel="of another Jupyter"))
        began = time.monotonic()
        assert names(asyncio.run(Lister().list(kernels={"mine"}))) == [("iris", "live")]
        assert time.monotonic() - began < 50


def test_an_answer_that_says_nothing_of_a_stop_is_an_error(folder: Path) -> None:
    with answering(b'{"deployments": [{"name": "iris"}]}\n') as record:
        put(folder, record)
        with pytest.raises(MlnbError, match=f"What process {record.pid} answers cannot be read"):
            stop_live("iris")
