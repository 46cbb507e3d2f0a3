from __future__ import annotations

import os
import socket

import pytest

from mlnb.scaling.inheritance import keep_from_children


def in_a_fork(question: object) -> int:
    """Return what a forked child exits with: 0 if the question is answered with yes there."""
    pid = os.fork()
    if pid == 0:
        try:
            code = 0 if question() else 1  # type: ignore[operator]
        except BaseException:
            code = 2
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def is_closed(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_has_none_of_them_and_the_parent_all() -> None:
    ours, theirs = socket.socketpair()
    other = socket.socket()
    gone = socket.socket()
    with ours, theirs, other:
        keep_from_children(ours, theirs, gone)
        gone.close()
        fds = ours.fileno(), theirs.fileno()
        kept = other.fileno()
        assert in_a_fork(lambda: all(map(is_closed, fds)) and ours.fileno() == -1 and not is_closed(kept)) == 0
        ours.sendall(b"here")
        assert theirs.recv(4) == b"here"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_number_that_was_closed_and_given_anew_is_left_alone() -> None:
    first = socket.socket()
    keep_from_children(first)
    fd = first.fileno()
    first.close()
    with socket.socket() as second:
        assert second.fileno() == fd
        assert in_a_fork(lambda: not is_closed(fd)) == 0
