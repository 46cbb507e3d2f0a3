"""Deployments that move between the kernel and processes: nobody notices, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from loading import Awaited, Load, Numbered, failures, gateway, lives, pids, processes
from sklearn.dummy import DummyRegressor
from threads import mlnb_threads
from waiting import free_port, is_open, wait_until

import mlnb

pytestmark = pytest.mark.alone

TESTS = Path(__file__).parents[1]


def numbered(name: str = "numbered", *, number: int = 1, **options: Any) -> mlnb.Deployment:
    return mlnb.deploy(Numbered(number), name=name, example=[[0.5]], **options)


def port_of(deployment: mlnb.Deployment) -> int:
    return int(deployment.url.split(":")[2].split("/")[0])


# ---- moving ----


def test_predicting_from_python_in_all_places_and_while_it_moves() -> None:
    deployment = numbered()
    over = threading.Event()

    def ask_without_end(first: int) -> int:
        asked = 0
        while not over.is_set():
            asked += 1
            answer = deployment.answer([[float(first + asked % 1000)]])
            assert answer.prediction.tolist() == [1e6 * answer.version.number + first + asked % 1000]
        return asked

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_without_end, 10_000 * number) for number in range(4)]
        for replicas in (1, 0, 2, 1, 0):
            deployment.scale(replicas)
            assert deployment.predict([[7.0], [8.0]]).tolist() == [1e6 + 7, 1e6 + 8]
        numbered(number=2, replicas=2)
        deployment.rollback()
        deployment.scale(0)
        over.set()
        assert min(one.result() for one in asking) > 5


def test_predicting_from_python_while_the_gateway_is_killed() -> None:
    deployment = numbered(replicas=1)
    gateway(deployment).kill()
    assert deployment.predict([[7.0]]).tolist() == [1e6 + 7]
    assert deployment.snapshot().place == "1 process"


def test_deployments_move_together_and_come_back_together() -> None:
    first, second = numbered("first"), numbered("second")
    with Load(first.url, connections=32) as one, Load(second.url, connections=32) as other:
        first.scale(2)
        assert (first.snapshot().place, second.snapshot().place) == ("2 processes", "1 process")
        assert (first.replicas, second.replicas) == (2, 0)
        for load in (one, other):
            load.more(200)
        second.scale(1)
        first.scale(0)
        assert (first.snapshot().place, second.snapshot().place) == ("1 process", "1 process")
        second.scale(0)
        for load in (one, other):
            load.more(200)
        assert (first.snapshot().place, second.snapshot().place) == ("in kernel", "in kernel")
        assert processes() == []
        first.scale(1)
        second.stop()
        assert first.snapshot().place == "1 process"
        one.more(200)
        assert failures(one.stop()) == {}
        other.stop()
    first.stop()
    assert processes() == []


def test_the_last_one_with_replicas_brings_the_others_back_when_it_stops() -> None:
    first, second = numbered("first", replicas=1), numbered("second")
    with Load(second.url) as load:
        first.stop()
        load.more(200)
        assert failures(load.stop()) == {}
    assert second.snapshot().place == "in kernel"
    assert processes() == []


def test_others_are_deployed_and_stopped_at_the_same_time() -> None:
    """Models of different libraries have zygotes of their own; that of one that starts must not end with another's."""
    steady = numbered("steady", replicas=1)

    def come_and_go(name: str, model: Any) -> None:
        for _ in range(4):
            with mlnb.deploy(model, name=name, example=[[0.5]], replicas=1) as deployment:
                assert len(deployment.predict([[1.0]])) == 1

    with Load(steady.url, connections=16) as load, ThreadPoolExecutor(3) as pool:
        constant = DummyRegressor(strategy="constant", constant=2.0).fit([[0.0]], [2.0])
        coming = [
            pool.submit(come_and_go, "constant", constant),
            pool.submit(come_and_go, "own", Numbered(5)),
        ]
        for one in coming:
            one.result()
        answers = load.stop()
    assert failures(answers) == {}
    assert max(one.received - one.sent for one in answers) < 1.5


def test_an_open_request_to_another_route_survives_a_move() -> None:
    deployment = numbered()
    with httpx.Client() as client:
        for replicas in (0, 1, 0, 2, 0):
            deployment.scale(replicas)
            assert client.get(f"{deployment.url}/info").json()["version"] == 1
            assert client.get(f"{deployment.url.split('/models')[0]}/readyz").status_code == 200
            answer = client.post(f"{deployment.url}/predict", json={"features": [float(replicas)]})
            assert answer.json()["prediction"] == [1e6 + replicas]
            assert answer.headers.get("connection") is None


@pytest.mark.parametrize("moves", [(0, 1), (1, 0)])
def test_a_request_whose_bytes_come_during_a_move_is_answered(moves: tuple[int, int]) -> None:
    import socket

    deployment = numbered(replicas=moves[0])
    body = b'{"features": [5.0]}'
    whole = b"POST /models/numbered/predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    sockets = [socket.create_connection(("127.0.0.1", port_of(deployment)), timeout=10) for _ in range(len(whole))]
    for at, sock in enumerate(sockets):
        sock.sendall(whole[:at])
    moving = threading.Thread(target=deployment.scale, args=[moves[1]])
    moving.start()
    time.sleep(0.3)  # not a condition: some of the rest comes during the move, some after it
    for at, sock in enumerate(sockets):
        sock.sendall(whole[at:])
    for sock in sockets:
        with sock:
            answer = b""
            while b"prediction" not in answer:
                piece = sock.recv(65536)
                assert piece, answer
                answer += piece
            assert b"1000005.0" in answer
    moving.join()


@pytest.mark.parametrize("moves", [(0, 1), (1, 0)])
def test_an_interrupt_of_a_move_leaves_no_connection_behind(moves: tuple[int, int]) -> None:
    deployment = numbered(replicas=moves[0])
    mlnb.deploy(Numbered(2, seconds=3), name="numbered", example=[[0.5]])
    with httpx.Client(timeout=20) as client, ThreadPoolExecutor() as pool:
        asking = pool.submit(client.post, f"{deployment.url}/predict", json={"features": [3.0]})
        wait_until(lambda: any(one.in_flight for one in deployment.snapshot().replicas))
        threading.Timer(2, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            deployment.scale(moves[1])
        assert asking.result().json()["prediction"] == [2e6 + 3]
        numbered(number=3)
        answer = client.post(f"{deployment.url}/predict", json={"features": [4.0]})
        assert answer.json()["prediction"] == [3e6 + 4]
        expected = 3 if deployment.snapshot().place == "1 process" else 0
        wait_until(lambda: len(processes()) == expected)
        assert sum("server" in name or "gateway" in name for name in mlnb_threads()) == 1


@pytest.mark.parametrize("interrupted", ["mlnb writer", "mlnb gateway"])
def test_an_interrupt_as_the_gateway_process_has_just_begun_leaves_none(
    interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = numbered()
    start = threading.Thread.start

    def interrupt(thread: threading.Thread) -> None:
        if thread.name.startswith(interrupted):
            raise KeyboardInterrupt
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt) as kept:  # as IPython keeps the last traceback, and all it refers to
            deployment.scale(1)
    wait_until(lambda: not processes())
    assert kept.tb is not None
    assert deployment.predict([[7.0]]).tolist() == [1e6 + 7]


@pytest.mark.parametrize("live", [True, False])
def test_an_interrupt_of_a_deploy_leaves_what_was_live(
    live: bool, tmp_path: Path, registry: mlnb.ModelRegistry
) -> None:
    other = mlnb.deploy(Numbered(7), name="other", example=[[0.5]], replicas=1)
    if live:
        deployment = numbered(replicas=1)

    def interrupt() -> None:
        wait_until((tmp_path / "loading").exists, seconds=30)
        os.kill(os.getpid(), signal.SIGINT)
        (tmp_path / "go").touch()

    with ThreadPoolExecutor() as pool:
        interrupting = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            mlnb.deploy(Awaited(2, str(tmp_path)), name="numbered", example=[[0.5]], replicas=1)
        interrupting.result()
    assert other.predict([[1.0]]).tolist() == [7e6 + 1]
    assert registry.live("numbered") == (1 if live else None)
    if live:
        assert deployment.version.number == 1
        assert httpx.post(f"{deployment.url}/predict", json={"features": [4.0]}).json()["version"] == 1
    else:
        assert mlnb.deployments() == [other]
        assert (
            httpx.post(f"{other.url.replace('other', 'numbered')}/predict", json={"features": [4.0]}).status_code == 404
        )


@pytest.mark.parametrize("moves", [(0, 1), (1, 0)])
def test_a_gateway_killed_during_a_move(moves: tuple[int, int]) -> None:
    deployment = numbered(replicas=moves[0])
    mlnb.deploy(Numbered(2, seconds=3), name="numbered", example=[[0.5]])
    with httpx.Client(timeout=30) as client, ThreadPoolExecutor() as pool:
        asking = pool.submit(client.post, f"{deployment.url}/predict", json={"features": [3.0]})
        wait_until(lambda: any(one.in_flight for one in deployment.snapshot().replicas))
        moving = pool.submit(deployment.scale, moves[1])
        if moves[1]:
            wait_until(lambda: deployment._workspace._hosting.beside)
        gateway(deployment).kill()
        moving.result()
        if moves[1]:  # the kernel had it
            assert asking.result().json()["prediction"] == [2e6 + 3]
        else:
            with pytest.raises(httpx.TransportError):
                asking.result()
        numbered(number=3)
        answer = client.post(f"{deployment.url}/predict", json={"features": [4.0]})
        assert answer.json()["prediction"] == [3e6 + 4]
        assert deployment.snapshot().place == ("1 process" if moves[1] else "in kernel")


# ---- nothing is left ----


def counts() -> dict[str, int]:
    gc.collect()
    me = psutil.Process()
    return {"descriptors": me.num_fds(), "threads": len(mlnb_threads()), "processes": len(processes())}


def memory() -> float:
    return psutil.Process().memory_full_info().uss / 2**20


LONG = [
    pytest.param(cycles, scales, marks=pytest.mark.soak)
    for cycles, scales in ((50, ()), (6, (1, 0)), (3, (2, 1, 0, 1)))
]


@pytest.mark.parametrize(("cycles", "scales"), [(2, (2, 0, 1)), *LONG])
def test_nothing_is_left_of_many_cycles(cycles: int, scales: tuple[int, ...]) -> None:
    """50 in the kernel; fewer with processes, each of which takes most of a second."""

    def cycle(number: int) -> None:
        deployment = mlnb.deploy(Numbered(number, weights=10_000), name="numbered", example=[[0.5]])
        for replicas in scales:
            deployment.scale(replicas)
        assert deployment.predict([[1.0]]).tolist() == [1e6 * number + 1]
        deployment.stop()

    cycle(1)
    cycle(2)
    before, used = counts(), memory()
    for number in range(3, 3 + cycles):
        cycle(number)
    wait_until(lambda: not mlnb_threads())
    assert counts() == before
    assert memory() - used < 0.1 * cycles + 4


def test_a_gateway_grows_no_descriptors_while_versions_and_replicas_change() -> None:
    deployment = numbered(replicas=1)
    beside = gateway(deployment)

    def change(number: int) -> None:
        numbered(number=number)
        deployment.scale(2)
        deployment.scale(1)
        os.kill(min(pids(deployment)), signal.SIGKILL) if number % 8 == 0 else None
        wait_until(lambda: len(pids(deployment)) == 1)

    for number in (2, 3):
        change(number)
    wait_until(lambda: len(beside.children(recursive=True)) == 2)  # a zygote and a replica
    before = beside.num_fds(), beside.num_threads(), beside.memory_full_info().uss
    for number in range(4, 24):
        change(number)
    wait_until(lambda: len(beside.children(recursive=True)) == 2)
    wait_until(lambda: beside.num_fds() == before[0])
    assert beside.num_threads() <= before[1]
    assert beside.memory_full_info().uss - before[2] < 8 * 2**20


def test_large_arrays_are_shared_by_the_replicas() -> None:
    size = 100 * 2**20
    deployment = mlnb.deploy(Numbered(1, weights=size // 8), name="numbered", example=[[0.5]], replicas=3)
    for _ in range(12):
        assert deployment.predict([[1.0]]).tolist() == [1e6 + 1]
    used = [psutil.Process(pid).memory_full_info().pss for pid in pids(deployment)]
    assert len(used) == 3
    assert sum(used) < 1.7 * size  # three copies are more than 3 times the size
    assert psutil.Process(gateway(deployment).pid).memory_full_info().uss < size


# ---- the end of the process, however it comes ----

PROGRAM = """
import os, signal, sys, threading, time
import mlnb
from loading import Awaited, Numbered, processes
way, registry, port = sys.argv[1:]
deployment = mlnb.deploy(Numbered(1), name="numbered", example=[[0.5]], registry=registry, port=int(port), replicas=2)
assert deployment.predict([[1.0]]).tolist() == [1e6 + 1]
found = [str(one.pid) for one in processes()]
if way == "leaves a forked child":
    child = os.fork()
    if child == 0:
        os.close(1)
        time.sleep(100)
        os._exit(0)
    found = [str(child), *found]
print(deployment.url, *found, flush=True)
sys.stdin.readline()
match way:
    case "raises":
        raise ValueError("on purpose")
    case "exits at once":
        os._exit(3)
    case "leaves a thread":
        threading.Thread(target=time.sleep, args=[0.5]).start()
    case "is in a prediction":
        threading.Thread(target=lambda: deployment.predict([[2.0]]), daemon=True).start()
    case "is interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    case "is terminated":
        os.kill(os.getpid(), signal.SIGTERM)
    case "is killed" | "leaves a forked child":
        os.kill(os.getpid(), signal.SIGKILL)
    case "scales as it ends":
        threading.Thread(target=lambda: deployment.scale(0), daemon=True).start()
"""
WAYS = [
    "returns", "raises", "exits at once", "leaves a thread", "is in a prediction", "is interrupted", "is terminated",
    "is killed", "leaves a forked child", "scales as it ends",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_program_that_ends_leaves_nothing(tmp_path: Path, way: str) -> None:
    port = free_port()
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, way, str(tmp_path / "registry"), str(port)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | {"PYTHONPATH": path},
    ) as program:  # fmt: skip
        assert program.stdout is not None
        _, *found = program.stdout.readline().split()
        left = [psutil.Process(int(pid)) for pid in found]
        outliving = left.pop(0) if way == "leaves a forked child" else None
        assert len(left) == 4  # gateway, zygote and two replicas
        try:
            program.communicate("\n", timeout=20)
            wait_until(lambda: not any(map(lives, left)))
            wait_until(lambda: not is_open(port))
            assert outliving is None or lives(outliving)
        finally:
            if outliving is not None:
                outliving.kill()


def test_two_programs_serve_the_same_version_at_once(tmp_path: Path) -> None:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "returns", str(tmp_path), str(free_port())], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path},
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        urls = [str(program.stdout.readline().split()[0]) for program in programs if program.stdout]
        assert len(set(urls)) == 2
        for url in urls:
            answer = httpx.post(f"{url}/predict", json={"features": [3.0]}, timeout=10)
            assert answer.json()["prediction"] == [1e6 + 3]
    finally:
        codes = [program.wait() for program in programs if program.communicate("\n", timeout=20)]
    assert codes == [0, 0]
