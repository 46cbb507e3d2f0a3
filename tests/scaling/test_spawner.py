from __future__ import annotations

import asyncio
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from spawned import hello
from waiting import wait_until

from mlnb.errors import MlnbError, StoppedError
from mlnb.scaling.spawner import Exit, Spawner

TESTS = str(Path(__file__).parents[1])
OWNER = str(Path(TESTS) / "spawned.py")


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    with Spawner(preload=("spawned",)) as one:
        yield one


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # of whoever should reap it, not of ours
    except psutil.NoSuchProcess:
        return True


def exits_of(spawner: Spawner, count: int) -> list[Exit]:
    """Return the next ends, waiting on the descriptor only."""
    found: list[Exit] = []
    with selectors.DefaultSelector() as selector:
        selector.register(spawner, selectors.EVENT_READ)
        while len(found) < count:
            assert selector.select(20), "no news"
            found += spawner.exits()
    assert len(found) == count
    return found


# Children ------------------------------------------------------------------------------------------------------------


def test_a_child_gets_the_socket_and_the_argument_and_is_the_zygotes(spawner: Spawner) -> None:
    with spawner.spawn("spawned:echo", argument=b"12345", name="first") as link:
        pid, parent, length = hello(link)
        assert (parent, length) == (spawner.pid, 5)
        link.sendall(b"ping")
        assert link.recv(4) == b"ping"
    assert exits_of(spawner, 1) == [Exit(pid=pid, name="first", code=0)]
    assert spawner.alive


@pytest.mark.parametrize("size", [0, 1, 1 << 20, 8 << 20])
def test_arguments_of_any_size_are_sent_without_waiting(spawner: Spawner, size: int) -> None:
    os.kill(spawner.pid, signal.SIGSTOP)  # it reads nothing
    link = spawner.spawn("spawned:echo", argument=b"x" * size)
    os.kill(spawner.pid, signal.SIGCONT)
    with link:
        assert hello(link)[2] == size


def test_a_child_has_a_clean_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with Spawner(
        preload=("numpy", "spawned"), environment={"OMP_NUM_THREADS": "1"}, directory=str(tmp_path)
    ) as spawner:
        other = spawner.spawn("spawned:echo")
        hello(other)
        states = []
        for _ in range(2):
            with spawner.spawn("spawned:state") as link, link.makefile() as file:
                states.append(json.load(file))
        first, second = states
        assert first["session"] == spawner.pid != os.getsid(0)
        assert first["group"] == first["pid"]
        assert first["interrupt"]
        assert first["terminate"]
        assert first["collects"]
        assert first["random"][0] != second["random"][0]
        assert first["random"][1] != second["random"][1]
        assert first["argv"] == ["-c"]
        assert first["directory"] == str(tmp_path)
        assert first["threads"] == "1"
        fds = {int(fd): name for fd, name in first["fds"].items()}
        assert (fds.pop(0), fds.pop(1)) == ("/dev/null", "/dev/null")
        assert fds.pop(2).startswith("pipe:")
        assert fds.pop(first["link"]).startswith("socket:")
        assert not fds
        assert [end.code for end in exits_of(spawner, 2)] == [7, 7]
        other.close()


def test_libraries_with_threads_work_in_a_child() -> None:
    with Spawner(preload=("numpy", "sklearn.ensemble", "torch", "spawned")) as spawner:
        for _ in range(2):
            with spawner.spawn("spawned:compute") as link:
                link.settimeout(60)
                assert link.recv(4) == b"done", spawner.exits()


# Ends ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "code", "killed_by", "words"),
    [
        ("spawned:crash", None, "SIGSEGV", "in crash"),
        ("spawned:fail", 1, None, "ValueError: the model is not there"),
        ("spawned:leave", 1, None, "no more"),
        ("spawned:nothing", 1, None, "has no attribute 'nothing'"),
        ("no.such.module:main", 1, None, "No module named 'no'"),
        ("spawned", 1, None, "ttribute"),
    ],
)
def test_an_end_says_why(spawner: Spawner, target: str, code: int | None, killed_by: str | None, words: str) -> None:
    with spawner.spawn(target) as link:
        assert link.recv(1) == b""
    (end,) = exits_of(spawner, 1)
    assert (end.code, end.signal) == (code, killed_by)
    assert words in end.last_words
    assert end.pid > 0


def test_a_crash_names_the_line_however_many_libraries_there_are() -> None:
    with Spawner(preload=("sklearn.ensemble",)) as spawner, spawner.spawn("spawned:crash") as link:
        assert link.recv(1) == b""
        (end,) = exits_of(spawner, 1)
        assert end.last_words.startswith("Fatal Python error: Segmentation fault")
        assert 'spawned.py", line' in end.last_words


def test_a_child_killed_from_outside_is_reported(spawner: Spawner) -> None:
    with spawner.spawn("spawned:echo") as link:
        pid = hello(link)[0]
        os.kill(pid, signal.SIGKILL)
        assert link.recv(1) == b""
        assert exits_of(spawner, 1) == [Exit(pid=pid, signal="SIGKILL")]


def test_a_child_that_writes_much_is_not_held_up_and_the_tail_is_kept(spawner: Spawner) -> None:
    spawner.spawn("spawned:chatter").close()
    (end,) = exits_of(spawner, 1)
    assert end.code == 0
    assert end.last_words.endswith("number 19999")
    assert len(end.last_words) <= 4096


@pytest.mark.parametrize("debug", ["", "1"])
def test_what_children_write_is_shown_only_for_debugging(
    debug: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLNB_DEBUG", debug)
    with Spawner() as spawner:
        spawner.spawn("spawned:fail").close()
        exits_of(spawner, 1)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("the model is not there" in err) == bool(debug)


def test_what_a_crashed_child_started_ends_too(spawner: Spawner) -> None:
    with spawner.spawn("spawned:parent") as link:
        left = int(link.recv(10))
        assert not is_gone(left)
        link.sendall(b"x")
        exits_of(spawner, 1)
        wait_until(lambda: is_gone(left))


def test_ends_that_nobody_asks_for_hold_up_nothing(spawner: Spawner) -> None:
    for _ in range(150):  # more than the socket has room for
        with spawner.spawn("spawned:fail") as link:
            assert link.recv(1) == b""
    assert len(exits_of(spawner, 150)) == 150


# Imports -------------------------------------------------------------------------------------------------------------


def test_a_module_that_cannot_be_preloaded_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "leaves.py").write_text("import sys; sys.exit('go')")
    (tmp_path / "breaks.py").write_text("1 / 0")
    with (
        caplog.at_level("INFO", "mlnb.scaling.spawner"),
        Spawner(preload=("leaves", "no_such", "breaks", "spawned"), path=[*sys.path, str(tmp_path)]) as spawner,
        spawner.spawn("spawned:echo") as link,
    ):
        hello(link)
        assert spawner.exits() == []
    assert [record.getMessage().split(":")[1].strip() for record in caplog.records] == ["leaves", "no_such", "breaks"]


def test_the_children_have_the_given_path(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def main(link, argument): link.sendall(__file__.encode())")
    with Spawner(path=[str(tmp_path), *sys.path]) as spawner, spawner.spawn("mine:main") as link:
        assert link.recv(1000).decode() == str(tmp_path / "mine.py")


def test_a_preload_that_crashes_the_zygote_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "fatal.py").write_text("import os; os._exit(9)")
    with Spawner(preload=("fatal",), path=[*sys.path, str(tmp_path)]) as spawner:

        def is_served() -> bool:
            with spawner.spawn("spawned:echo") as link:
                return bool(link.recv(1))

        wait_until(is_served)


# Starting and ending -------------------------------------------------------------------------------------------------


def test_the_constructor_and_spawn_do_not_wait_for_imports(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time; time.sleep(600)")
    before = time.perf_counter()
    with Spawner(preload=("slow",), path=[*sys.path, str(tmp_path)]) as spawner:
        link = spawner.spawn("spawned:echo")
        zygote = spawner.pid
    assert time.perf_counter() - before < 5  # of 600
    assert link.recv(1) == b""
    assert is_gone(zygote)
    link.close()


def test_closing_ends_everything_and_leaves_nothing_open() -> None:
    me = psutil.Process()
    before = me.num_fds()
    spawner = Spawner()
    kind, obstinate = spawner.spawn("spawned:echo"), spawner.spawn("spawned:stubborn")
    pids = [spawner.pid, hello(kind)[0]]
    obstinate.recv(4)
    pids += [child.pid for child in psutil.Process(spawner.pid).children()]
    spawner.close(grace=0.2)
    spawner.close()
    assert [pid for pid in pids if not is_gone(pid)] == []
    assert not spawner.alive
    assert spawner.fileno() == -1
    assert [(end.pid, end.code) for end in spawner.exits()] == [(pids[1], 0)]
    assert kind.recv(1) == obstinate.recv(1) == b""
    with pytest.raises(StoppedError, match="closed"):
        spawner.spawn("spawned:echo")
    kind.close()
    obstinate.close()
    assert me.num_fds() == before
    assert not [child for child in me.children() if child.pid in pids]


def test_a_hundred_children_leave_nothing() -> None:
    with Spawner(preload=("spawned",)) as spawner:
        spawner.spawn("spawned:fail").close()
        exits_of(spawner, 1)
        zygote, me = psutil.Process(spawner.pid), psutil.Process()
        before = me.num_fds(), zygote.num_fds(), me.num_threads()
        for _ in range(10):
            links = [spawner.spawn("spawned:echo") for _ in range(10)]
            pids = [hello(link)[0] for link in links]
            for link in links:
                link.close()
            assert {end.pid for end in exits_of(spawner, 10)} == set(pids)
        assert (me.num_fds(), zygote.num_fds(), me.num_threads()) == before
        assert zygote.children() == []


def test_a_zygote_that_was_killed_takes_its_children_along_and_comes_back(spawner: Spawner) -> None:
    link = spawner.spawn("spawned:echo", name="lost")
    pid, first, _ = hello(link)
    os.kill(first, signal.SIGKILL)
    assert link.recv(1) == b""
    wait_until(lambda: is_gone(pid))
    with spawner.spawn("spawned:echo") as again:
        assert hello(again)[1] == spawner.pid != first
        (end,) = exits_of(spawner, 1)
        assert (end.pid, end.name, end.signal) == (pid, "lost", "SIGKILL")
        assert spawner.alive
    link.close()


def test_a_zygotes_death_is_news_and_then_there_is_quiet(spawner: Spawner) -> None:
    with spawner.spawn("spawned:echo") as link:
        hello(link)
        os.kill(spawner.pid, signal.SIGKILL)
        exits_of(spawner, 1)
    with selectors.DefaultSelector() as selector:
        selector.register(spawner, selectors.EVENT_READ)
        assert not selector.select(0)
    assert not spawner.alive
    with spawner.spawn("spawned:echo") as link:
        assert hello(link)[1] == spawner.pid


def test_a_zygote_that_cannot_start_is_tried_again_ever_less_often(tmp_path: Path) -> None:
    with Spawner(path=[]) as spawner:  # not even the standard library
        starts = {spawner.pid}
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            with spawner.spawn("spawned:echo") as link:
                assert link.recv(1) == b""
            starts.add(spawner.pid)
            spawner.exits()
        assert 2 <= len(starts) <= 4


def test_a_zygote_without_free_descriptors_says_so_and_goes_on(spawner: Spawner) -> None:
    with spawner.spawn("spawned:echo") as link:
        hello(link)
        limit = resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE)
        for free in range(4):
            wait_until(lambda: psutil.Process(spawner.pid).status() == psutil.STATUS_SLEEPING)  # done with the last
            used = {int(fd.name) for fd in Path(f"/proc/{spawner.pid}/fd").iterdir()}
            highest = [fd for fd in range(1000) if fd not in used][free]
            resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, (highest, limit[1]))
            with spawner.spawn("spawned:echo", name="refused") as refused:
                assert refused.recv(1) == b""
            (end,) = exits_of(spawner, 1)
            assert (end.pid, end.name, end.code, end.signal) == (0, "refused", None, None)
            assert "open files" in end.last_words
        resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, limit)
        with spawner.spawn("spawned:echo") as again:
            assert hello(again)[1] == spawner.pid


def test_a_zygote_that_cannot_be_started_at_all_is_an_error(tmp_path: Path) -> None:
    before = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError):
        Spawner(directory=str(tmp_path / "nowhere"))
    assert psutil.Process().num_fds() == before


def test_many_requests_are_taken_while_the_zygote_is_busy_and_none_is_lost(spawner: Spawner) -> None:
    os.kill(spawner.pid, signal.SIGSTOP)
    links = [spawner.spawn("spawned:echo") for _ in range(60)]
    os.kill(spawner.pid, signal.SIGCONT)
    assert len({hello(link)[0] for link in links}) == 60
    for link in links:
        link.close()


def test_its_descriptor_works_in_an_event_loop(spawner: Spawner) -> None:
    async def news() -> list[Exit]:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Exit]] = loop.create_future()

        def hear() -> None:
            if ends := spawner.exits():
                found.set_result(ends)

        loop.add_reader(spawner, hear)
        spawner.spawn("spawned:fail").close()
        ends = await asyncio.wait_for(found, 20)
        loop.remove_reader(spawner)
        return ends

    for run in (asyncio.run, uvloop.run):
        assert [end.code for end in run(news())] == [1]


def test_it_needs_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(MlnbError, match="in the kernel"):
        Spawner()


# With the owner ------------------------------------------------------------------------------------------------------


@contextmanager
def owner(way: str, *, new_session: bool = False) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    with subprocess.Popen(
        [sys.executable, OWNER, way],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {"PYTHONPATH": TESTS}, start_new_session=new_session,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        pids: dict[str, Any] = json.loads(process.stdout.readline())
        try:
            assert len(pids["children"]) == 2
            yield process, pids
        finally:
            process.kill()


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()


@pytest.mark.parametrize(
    ("way", "end", "code"),
    [
        ("returns", say, 0),
        ("exits", say, 3),
        ("fails", say, 1),
        ("exits at once", say, 4),
        ("is killed", kill, -9),
        ("leaves a forked child", kill, -9),
    ],
)
def test_children_end_with_their_owner(way: str, end: Callable[[subprocess.Popen[str]], None], code: int) -> None:
    with owner(way) as (process, pids):
        assert not any(is_gone(pid) for pid in pids["children"])
        end(process)
        assert process.wait(10) == code
        wait_until(lambda: all(is_gone(pid) for pid in [pids["zygote"], *pids["children"]]))
        if pids["outliving"]:
            assert not is_gone(pids["outliving"])
            os.kill(pids["outliving"], signal.SIGKILL)


def test_children_end_when_owner_and_zygote_are_killed() -> None:
    with owner("is killed") as (process, pids):
        os.kill(pids["zygote"], signal.SIGKILL)
        process.kill()
        wait_until(lambda: all(is_gone(pid) for pid in [pids["zygote"], *pids["children"]]))


def test_an_owner_killed_while_the_zygote_imports(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time; time.sleep(600)")
    program = (
        "import sys; from mlnb.scaling.spawner import Spawner\n"
        "print(Spawner(preload=['slow']).pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        zygote = int(process.stdout.readline())
        process.kill()
        wait_until(lambda: is_gone(zygote))


def test_an_interrupt_of_the_owners_group_does_not_reach_them() -> None:
    with owner("is interrupted", new_session=True) as (process, pids):
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "interrupted\n"
        assert not any(is_gone(pid) for pid in [pids["zygote"], *pids["children"]])


def test_an_interrupt_does_not_end_zygote_or_child(spawner: Spawner) -> None:
    with spawner.spawn("spawned:echo") as link:
        pid = hello(link)[0]
        for one in (spawner.pid, pid):
            os.kill(one, signal.SIGINT)
        link.sendall(b"still here")
        assert link.recv(10) == b"still here"
        assert os.getpgid(pid) != os.getpgid(0)
    assert [end.code for end in exits_of(spawner, 1)] == [0]


def test_a_forked_child_of_the_owner_has_no_spawner_and_ends_nothing(spawner: Spawner) -> None:
    with spawner.spawn("spawned:echo") as link:
        hello(link)
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                with pytest.raises(StoppedError):
                    spawner.spawn("spawned:echo")
                spawner.close()
                theirs.sendall(f"{spawner.fileno()} {link.fileno()}".encode())
            finally:
                os._exit(0)
        theirs.close()
        assert ours.recv(100) == b"-1 -1"
        os.waitpid(pid, 0)
        ours.close()
        link.sendall(b"x")
        assert link.recv(1) == b"x"
