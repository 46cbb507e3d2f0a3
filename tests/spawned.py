"""What children of the spawner run in its tests; as a program, an owner that ends in one way or another."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from mlnb.scaling.spawner import Spawner


def echo(link: socket.socket, argument: bytes) -> None:
    """Say hello and the argument's length, then send back what comes."""
    link.sendall(json.dumps([os.getpid(), os.getppid(), len(argument)]).encode() + b"\n")
    while text := link.recv(1 << 16):
        link.sendall(text)


def state(link: socket.socket, argument: bytes) -> int:
    """Send what a child looks like from inside."""
    import numpy as np

    fds = {int(link.name): _target(link) for link in Path("/proc/self/fd").iterdir()}
    found = {
        "session": os.getsid(0),
        "group": os.getpgid(0),
        "pid": os.getpid(),
        "interrupt": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "terminate": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "collects": gc.isenabled(),
        "random": [random.random(), float(np.random.random())],  # noqa: S311, NPY002 - the global generators are meant
        "fds": {fd: name for fd, name in fds.items() if name},
        "link": link.fileno(),
        "argv": sys.argv,
        "directory": str(Path.cwd()),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    link.sendall(json.dumps(found).encode())
    return 7


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # the one that listed them
        return ""


def crash(link: socket.socket, argument: bytes) -> None:
    ctypes.string_at(0)


def fail(link: socket.socket, argument: bytes) -> None:
    raise ValueError("the model is not there")


def leave(link: socket.socket, argument: bytes) -> None:
    sys.exit("no more")


def chatter(link: socket.socket, argument: bytes) -> None:
    """Write more than any pipe holds."""
    for number in range(20_000):
        sys.stderr.write(f"a warning as long as warnings are, number {number}\n")


def stubborn(link: socket.socket, argument: bytes) -> None:
    """Heed nothing but SIGKILL."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    link.sendall(b"here")
    while True:
        time.sleep(60)


def parent(link: socket.socket, argument: bytes) -> None:
    """Start a process, tell its pid, and crash."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=True)
    link.sendall(str(program.pid).encode())
    link.recv(1)
    ctypes.string_at(0)


def compute(link: socket.socket, argument: bytes) -> None:
    """Use every library that has threads of its own."""
    import numpy as np
    import torch
    from sklearn.ensemble import RandomForestClassifier

    x = np.ones((600, 600))
    assert (x @ x)[0, 0] == 600
    y = np.arange(600) % 2
    assert (RandomForestClassifier(20, n_jobs=2).fit(x, y).predict(x).shape) == (600,)
    t = torch.ones(600, 600)
    assert float((t @ t)[0, 0]) == 600
    link.sendall(b"done")


def hello(link: socket.socket) -> list[int]:
    """Read the first line of ``echo``: its pid, its parent's, and the length of its argument."""
    with link.makefile("rb") as file:
        found: list[int] = json.loads(file.readline())
    return found


def main(way: str) -> None:
    """Own a spawner with two children, tell everybody's pids, and end."""
    spawner = Spawner()
    links = [spawner.spawn("spawned:echo"), spawner.spawn("spawned:stubborn")]
    links[1].recv(4)
    children = [hello(links[0])[0], *_children(spawner.pid)]
    outliving = os.fork() if way == "leaves a forked child" else 0
    if way == "leaves a forked child" and outliving == 0:
        os.close(1)
        assert spawner.fileno() == -1
        assert {link.fileno() for link in links} == {-1}
        time.sleep(600)
    told = {"zygote": spawner.pid, "children": sorted(set(children)), "outliving": outliving}
    try:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()
    except KeyboardInterrupt:
        links[0].sendall(b"ping")
        assert links[0].recv(4) == b"ping"
        sys.stdout.write("interrupted\n")
        sys.stdout.flush()
        sys.stdin.readline()
    if way == "exits":
        sys.exit(3)
    if way == "fails":
        raise ValueError("on purpose")
    if way == "exits at once":
        os._exit(4)


def _children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children()]


if __name__ == "__main__":
    main(sys.argv[1])
