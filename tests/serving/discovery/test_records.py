from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from discovered import put, record_of

from mlnb.serving.discovery.record import ServerRecord
from mlnb.serving.discovery.records import RecordFile, make_socket_folder, remove_socket, runtime_folder, trusted

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
NOBODY = 65_534


@pytest.fixture
def listening() -> Iterator[Path]:
    """A socket that this process listens at."""
    path = make_socket_folder() / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        yield path
    remove_socket(path)


@pytest.fixture
def mine(listening: Path) -> ServerRecord:
    return record_of(os.getpid(), listening)


@pytest.fixture
def dead(mine: ServerRecord) -> Iterator[ServerRecord]:
    """What a process has left that was killed."""
    with socket.socket(socket.AF_UNIX) as sock:
        path = make_socket_folder() / "s"
        sock.bind(str(path))
    yield replace(mine, pid=ended(), socket=str(path))
    remove_socket(path)


def ended() -> int:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        return process.pid


def test_what_is_written_is_private_and_read_again(folder: Path, mine: ServerRecord) -> None:
    assert runtime_folder() == folder
    assert trusted(folder) == ([], "")
    file = RecordFile(folder)
    for record in (mine, replace(mine, names=("digits", "iris"))):
        file.write(record)
        assert trusted(folder) == ([record], "")
    (path,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == (0o700, 0o600)
    file.remove()
    file.remove()
    assert list(folder.iterdir()) == []


def test_after_the_clock_was_set_there_is_one_record(folder: Path, mine: ServerRecord) -> None:
    file = RecordFile(folder)
    file.write(replace(mine, started=mine.started - 3600))
    assert trusted(folder) == ([], "")
    assert len(list(folder.iterdir())) == 1  # somebody listens there: it is not dead
    file.write(mine)
    assert trusted(folder) == ([mine], "")
    assert len(list(folder.iterdir())) == 1


def test_the_record_of_another_thread_is_not_removed(folder: Path, mine: ServerRecord) -> None:
    first, second = RecordFile(folder), RecordFile(folder)
    second.write(replace(mine, socket="/nowhere/s"))
    first.write(mine)
    second.remove()
    assert trusted(folder) == ([mine], "")
    first.remove()
    assert list(folder.iterdir()) == []


def test_a_folder_of_ours_that_others_may_write_is_mended(folder: Path, mine: ServerRecord) -> None:
    file = RecordFile(folder)
    for mode in (0o2770, 0o777):
        file.write(mine)
        folder.chmod(mode)
        file.write(mine)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert trusted(folder) == ([mine], "")
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        folder.chmod(0o770)
        file.write(mine)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o770


@pytest.mark.parametrize("field", ["socket", "kernel", "notebook", "names"])
def test_what_cannot_be_encoded_is_no_record(folder: Path, mine: ServerRecord, field: str) -> None:
    wrong = ["\ud800"] if field == "names" else "/nowhere/\ud800/s"
    put(folder, mine, text=json.dumps(json.loads(mine.to_text()) | {field: wrong}))
    assert trusted(folder) == ([], "")


def test_a_socket_may_lie_in_a_folder_whose_name_is_no_unicode(folder: Path, mine: ServerRecord) -> None:
    record = replace(mine, socket=os.fsdecode(b"/tmp/\xff/s"))
    assert ServerRecord.parse(record.to_text()) == record
    RecordFile(folder).write(record)


def test_containers_of_one_host_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [make_socket_folder()]
    monkeypatch.setattr("os.readlink", lambda *_, **__: "pid:[1]")
    made.append(make_socket_folder())
    for folder in made:
        remove_socket(folder / "s")
    ours, others = (folder.name.split("-")[1] for folder in made)
    assert ours != others


def test_what_the_dead_leave_is_forgotten(folder: Path, mine: ServerRecord, dead: ServerRecord) -> None:
    kept = put(folder, mine)
    put(folder, dead)
    reused = replace(mine, started=mine.started - 5, socket=dead.socket)  # its pid is ours now
    put(folder, reused)
    put(folder, replace(mine, pid=1, socket=dead.socket))  # of another program
    assert trusted(folder) == ([mine], "")
    assert list(folder.iterdir()) == [kept]
    assert not Path(dead.socket).parent.exists()
    assert Path(mine.socket).exists()


def test_a_zombie_is_dead(folder: Path, dead: ServerRecord) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        record = record_of(process.pid, dead.socket)
        put(folder, record)
        assert trusted(folder)[0] == [record]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert trusted(folder)[0] == []
    assert list(folder.iterdir()) == []


def test_of_another_machine_with_the_same_home_nothing_is_deleted(folder: Path, dead: ServerRecord) -> None:
    elsewhere = replace(dead, socket="/nowhere/mlnb-00000000-abc/s")
    path = put(folder, elsewhere, age=86_400)
    assert trusted(folder) == ([], "")
    assert path.exists()
    put(folder, elsewhere, age=8 * 86_400)
    trusted(folder)
    assert not path.exists()


@pytest.mark.parametrize("text", ["", '{"format": 1, "pid": 7', "[" * 100_000, '{"format": 0}', "\0\udcff"])
def test_half_written_records_are_left_alone_for_a_while(folder: Path, mine: ServerRecord, text: str) -> None:
    text = text.encode(errors="replace").decode()
    for name in (None, "x.tmp"):
        named = {} if name is None else {"name": name}
        fresh = put(folder, mine, text=text, **named)
        assert trusted(folder) == ([], "")
        assert fresh.exists()
        old = put(folder, mine, text=text, age=61, **named)
        assert trusted(folder) == ([], "")
        assert not old.exists()


def test_a_record_of_a_newer_mlnb_is_none_of_ours(folder: Path, mine: ServerRecord) -> None:
    path = put(folder, mine, text='{"format": 2}', age=86_400)
    assert trusted(folder) == ([], "")
    assert path.exists()


@pytest.mark.parametrize(
    "file", [{"mode": 0o620}, {"mode": 0o602}, {"name": "7-7.json"}, {"name": "x.txt"}, {"text": " " * 300_000}]
)
def test_what_is_not_trusted(folder: Path, mine: ServerRecord, file: dict[str, object]) -> None:
    path = put(folder, mine, **file)
    assert trusted(folder) == ([], "")
    assert path.exists()


def test_links_pipes_and_folders_are_no_records(folder: Path, mine: ServerRecord, tmp_path: Path) -> None:
    path = put(folder, mine)
    path.rename(tmp_path / "record")
    path.symlink_to(tmp_path / "record")
    os.mkfifo(folder / "1-1.json")
    (folder / "2-2.json").mkdir()
    assert trusted(folder) == ([], "")
    assert len(list(folder.iterdir())) == 3


@as_root
def test_records_of_others_are_neither_believed_nor_deleted(
    folder: Path, mine: ServerRecord, dead: ServerRecord
) -> None:
    forged = [put(folder, mine, owner=NOBODY), put(folder, dead, owner=NOBODY)]
    forged.append(put(folder, mine, name="1-1.json", text="{", owner=NOBODY, age=100))
    assert trusted(folder) == ([], "")
    assert all(path.exists() for path in forged)
    assert Path(dead.socket).exists()


@as_root
def test_a_process_of_another_user_is_none_of_ours(folder: Path, mine: ServerRecord, dead: ServerRecord) -> None:
    other = [sys.executable, "-S", "-c", f"import os; os.setuid({NOBODY}); print(flush=True); input()"]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        put(folder, record_of(process.pid, dead.socket))
        assert trusted(folder) == ([], "")
        process.kill()


def test_a_socket_must_lie_where_nobody_else_comes(folder: Path, mine: ServerRecord) -> None:
    put(folder, mine)
    at = Path(mine.socket).parent
    for mode, found in ((0o755, []), (0o710, []), (0o700, [mine])):
        at.chmod(mode)
        assert trusted(folder) == (found, "")
    if os.geteuid() == 0:
        os.chown(at, NOBODY, NOBODY)
        assert trusted(folder) == ([], "")
        os.chown(at, 0, 0)
    put(folder, mine, text=replace(mine, socket=str(folder / "nothing")).to_text())
    assert trusted(folder) == ([], "")


def test_a_folder_that_others_may_write_is_said_to_be_one(folder: Path, mine: ServerRecord) -> None:
    path = put(folder, mine)
    for mode in (0o770, 0o1777):
        folder.chmod(mode)
        records, trouble = trusted(folder)
        assert records == []
        assert trouble.startswith("Others may write")
    assert path.exists()
    folder.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        assert trusted(folder)[1].endswith("belongs to another user, so nothing that stands in it is believed.")


def test_a_folder_that_cannot_be_read_is_said_to_be_one(folder: Path, mine: ServerRecord, tmp_path: Path) -> None:
    put(folder, mine)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "link", tmp_path / "file", tmp_path / "file" / "mlnb"):
        records, trouble = trusted(place)
        assert records == []
        assert "cannot be read: " in trouble


def test_the_path_of_a_socket_is_short_whatever_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (long := tmp_path / ("x" * 100)).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    made = make_socket_folder()
    try:
        assert len(str(made)) < 50
        assert list(long.iterdir()) == []
    finally:
        remove_socket(made / "s")
    assert not made.exists()
