"""The records in Jupyter's runtime folder: one's own written, those to be trusted read, those of the dead forgotten."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, NamedTuple

from mlnb.errors import InvalidInputError
from mlnb.serving.discovery.record import FORMAT, MOST_BYTES, ServerRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RecordFile", "make_socket_folder", "remove_socket", "runtime_folder", "trusted"]

_OTHERS_WRITE = 0o022
_OTHERS_AT_ALL = 0o077
_SAME_START = 0.05  # seconds
_BEING_WRITTEN = 60.0  # seconds that a record may be half written
_ELSEWHERE = 7 * 86_400.0  # seconds after which a record of another machine is over: living ones write it each minute
_LONGEST_PATH = 100  # bytes; a socket's address has room for 104 to 108, by system
_READING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def runtime_folder() -> Path | None:
    """Return where the records of this user's processes are.

    Returns
    -------
    Path or None
        None where jupyter_core is not installed, or the system has no Unix sockets.
    """
    if not (hasattr(socket, "AF_UNIX") and hasattr(os, "geteuid")):
        return None
    try:
        from jupyter_core.paths import jupyter_runtime_dir
    except ImportError:
        return None
    return Path(jupyter_runtime_dir()) / "mlnb"


class RecordFile:
    """The file of this process's own record.

    Parameters
    ----------
    folder : Path
        See :func:`runtime_folder`; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: ServerRecord | None = None

    def write(self, record: ServerRecord) -> None:
        """Let the file say this, whole or not at all.

        Raises
        ------
        OSError
            If the folder cannot be made or written.
        """
        _make_private(self._folder)
        path = self._path(record)
        partial = path.with_suffix(".tmp")
        partial.unlink(missing_ok=True)
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(record.to_text())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if self._written is not None and self._written.id != record.id:  # the clock was set, and with it its start
            self.remove()
        self._written = record

    def remove(self) -> None:
        """Delete it, unless another thread of this process has written its own there. Again is harmless."""
        written, self._written = self._written, None
        if written is not None:
            with suppress(OSError, InvalidInputError):
                path = self._path(written)
                if ServerRecord.parse(path.read_text("utf-8", "replace")).socket == written.socket:
                    path.unlink()

    def _path(self, record: ServerRecord) -> Path:
        return self._folder / f"{record.id}.json"


def _make_private(folder: Path) -> None:
    """Make a folder that this user alone may write; take that right from others, whom a shared volume may give it."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & _OTHERS_WRITE:
        folder.chmod(0o700)


def make_socket_folder() -> Path:
    """Make a folder that only this user may enter, for a socket ``s``; its path is short enough for one."""
    prefix = f"mlnb-{_machine()}-"
    folder = mkdtemp(prefix=prefix)
    if len(os.fsencode(folder)) + len("/s") > _LONGEST_PATH:
        Path(folder).rmdir()
        folder = mkdtemp(prefix=prefix, dir="/tmp")
    return Path(folder)


def remove_socket(path: str | Path) -> None:
    """Delete a socket with its folder, if :func:`make_socket_folder` of this user made that."""
    folder = Path(path).parent
    with suppress(OSError):
        if folder.name.startswith("mlnb-") and _is_private(folder):
            if _is_socket(path):
                Path(path).unlink()
            folder.rmdir()


def trusted(folder: Path) -> tuple[list[ServerRecord], str]:
    """Return the records of this user's living processes; forget those of the dead.

    A record is trusted if this user alone may write it and its folder, its process lives and began when it says, and
    its socket lies where this user alone may enter. Nothing of others is ever deleted.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    records : list of ServerRecord
    trouble : str
        Why some or all may be missing, in one sentence; "" if nothing is wrong.
    """
    try:
        at = os.open(folder, _READING | getattr(os, "O_DIRECTORY", 0))
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        return [], _unreadable(folder, error)
    try:
        trouble = _distrusted(folder, os.fstat(at))
        return ([], trouble) if trouble else (list(_records(at)), "")
    except OSError as error:
        return [], _unreadable(folder, error)
    finally:
        os.close(at)


def _unreadable(folder: Path, error: OSError) -> str:
    return f"The folder {folder}, where processes say what they serve, cannot be read: {error.strerror}."


def _distrusted(folder: Path, found: os.stat_result) -> str:
    """Return why nothing in a folder is trusted."""
    if found.st_uid != os.geteuid():
        return f"The folder {folder} belongs to another user, so nothing that stands in it is believed."
    if found.st_mode & _OTHERS_WRITE:
        return f"Others may write to the folder {folder}, so nothing that stands in it is believed: chmod 700 it."
    return ""


def _records(at: int) -> Iterator[ServerRecord]:
    for name in sorted(os.listdir(at)):
        record = _record(at, name) if name.endswith((".json", ".tmp")) else None
        if record is not None:
            yield record


class _Own(NamedTuple):
    """A small file of this user's that nobody else may write."""

    text: str
    age: float  # seconds


def _record(at: int, name: str) -> ServerRecord | None:
    """Return a record if it is to be trusted."""
    own = _read(at, name)
    if own is None:
        return None
    try:
        record = ServerRecord.parse(own.text)
    except (InvalidInputError, RecursionError):
        if own.age > _BEING_WRITTEN and not _is_newer(own.text):
            _delete(at, name)
        return None
    if name != f"{record.id}.json":
        if name.endswith(".tmp") and own.age > _BEING_WRITTEN:  # it was killed before it gave it its name
            _delete(at, name)
        return None
    if not _lives(record):
        _forget(at, name, record, own.age)
        return None
    return record if _is_private(Path(record.socket).parent) and _is_socket(record.socket) else None


def _read(at: int, name: str) -> _Own | None:
    try:
        descriptor = os.open(name, _READING, dir_fd=at)
    except OSError:  # gone, a link, or not to be read
        return None
    try:
        found = os.fstat(descriptor)
        mine = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE
        if not mine or found.st_size > MOST_BYTES:
            return None
        text = os.read(descriptor, MOST_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)
    return _Own(text, time.time() - found.st_mtime)


def _is_newer(text: str) -> bool:
    """Say whether a later mlnb wrote a record, which knows what to do with it."""
    try:
        told: Any = json.loads(text)
    except (ValueError, RecursionError):
        return False
    number = told.get("format") if isinstance(told, dict) else None
    return isinstance(number, int) and number > FORMAT


def _lives(record: ServerRecord) -> bool:
    """Say whether the process that a record speaks of is there, and this user's."""
    import psutil

    try:
        process = psutil.Process(record.pid)
        with process.oneshot():
            return (
                process.status() != psutil.STATUS_ZOMBIE
                and process.uids().effective == os.geteuid()
                and abs(process.create_time() - record.started) <= _SAME_START
            )
    except psutil.Error:
        return False


def _forget(at: int, name: str, record: ServerRecord, age: float) -> None:
    """Delete what a dead process has left; one of another machine, in a home that both have, may live there."""
    folder = Path(record.socket).parent.name
    of_machine = re.fullmatch(r"mlnb-([0-9a-f]{8})-\w+", folder)
    if of_machine is not None and of_machine[1] != _machine() and age < _ELSEWHERE:
        return
    if _is_listened_at(record.socket):  # it lives, and the clock was set since it wrote when it began
        return
    _delete(at, name)
    remove_socket(record.socket)


def _is_listened_at(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(path)
        except BlockingIOError:  # many wait there
            return True
        except OSError:
            return False
    return True


def _is_private(folder: Path) -> bool:
    """Say whether it is a folder that this user alone may enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_AT_ALL


def _is_socket(path: str | Path) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid()


def _delete(at: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=at)


def _machine() -> str:
    """Return what tells this machine or container from others that may have the same home folder."""
    try:
        pids = str(Path("/proc/self/ns/pid").readlink())  # containers may share a host name, and no processes
    except OSError:
        pids = ""
    return hashlib.sha256(f"{socket.gethostname()} {pids}".encode()).hexdigest()[:8]
