"""Processes that serve, and records forged for them; as a program, a process that deploys what it is told to."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

import mlnb
from mlnb.serving.discovery.record import ServerRecord
from mlnb.serving.discovery.records import trusted

_DROP_CAPABILITY, _OVERRIDE_PERMISSIONS, _READ_ANYTHING = 24, 1, 2  # of prctl(2) and capabilities(7)


@contextmanager
def deploying(*names: str, replicas: int = 0, bound: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has deployed ``names``; it ends by itself when its input is closed.

    ``bound``: permissions bind it, although it may be root.
    """
    command = [sys.executable, __file__, str(replicas), *names]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    binding = _without_powers if bound else None
    with subprocess.Popen(command, **pipes, preexec_fn=binding) as process:  # noqa: PLW1509 - it takes no lock
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.stderr.read() if process.stderr else ""
            yield process
        finally:
            process.kill()
            process.wait()
            trusted(Path(os.environ["JUPYTER_RUNTIME_DIR"]) / "mlnb")  # which forgets what it has left


def _without_powers() -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(_DROP_CAPABILITY, _OVERRIDE_PERMISSIONS, 0, 0, 0)
    libc.prctl(_DROP_CAPABILITY, _READ_ANYTHING, 0, 0, 0)


def sockets_of(process: psutil.Process) -> list[str]:
    """Return the paths of the Unix sockets that a process holds."""
    return [str(one.laddr) for one in process.net_connections("unix")]


def record_of(pid: int, socket: Path | str, **given: Any) -> ServerRecord:
    """Return a record of a process as it is, but for what is given."""
    record = ServerRecord(
        pid=pid, started=psutil.Process(pid).create_time(), port=8000, socket=str(socket), names=("iris",)
    )
    return replace(record, **given)


def put(folder: Path, record: ServerRecord, **file: Any) -> Path:
    """Write a record by hand: its ``text``, ``name``, ``mode``, ``owner`` and ``age`` as given."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path: Path = folder / file.get("name", f"{record.id}.json")
    path.write_text(file.get("text", record.to_text()))
    path.chmod(file.get("mode", 0o600))
    if "owner" in file:
        os.chown(path, file["owner"], file["owner"])
    if "age" in file:
        written = path.stat().st_mtime - file["age"]
        os.utime(path, (written, written))
    return path


def main(replicas: int, names: list[str]) -> None:
    from sklearn.dummy import DummyRegressor

    logging.basicConfig(format="%(name)s: %(message)s")
    for number, name in enumerate(names):
        model = DummyRegressor(strategy="constant", constant=float(number)).fit([[0.0]], [0.0])
        mlnb.deploy(model, name=name, example=[[0.0]], replicas=replicas)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:  # each is Python
        sys.stdout.write(json.dumps(eval(line)) + "\n")  # noqa: S307 - of the test's own
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
