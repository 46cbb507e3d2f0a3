from __future__ import annotations

import pickle
import socket
import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlnb.errors import PredictionError
from mlnb.scaling.frames import FrameReader, pack, receive, send

LARGE = 2**16  # bytes from which an array travels beside the pickle


def joined(*messages: Any) -> bytes:
    return b"".join(part for message in messages for part in pack(message))


def read(data: bytes, cuts: list[int]) -> list[Any]:
    reader = FrameReader()
    found: list[Any] = []
    ends = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(ends):
        found += reader.feed(data[start:end])
    return found


MESSAGES: list[Any] = [
    None,
    {"rows": [[1.0, float("nan")]], "text": "ä"},
    np.arange(10.0),
    np.arange(LARGE / 8),
    [np.arange(LARGE / 8 + 1), "between", np.asfortranarray(np.ones((200, 100)))],
    b"x" * 3,
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(MESSAGES), max_size=4), st.lists(st.integers(0, 10**9), max_size=20))
def test_messages_come_whole_however_their_bytes_do(messages: list[Any], cuts: list[int]) -> None:
    found = read(joined(*messages), cuts)
    assert len(found) == len(messages)
    for one, other in zip(found, messages, strict=True):
        np.testing.assert_equal(one, other)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_cut_at_any_of_the_first_bytes(message: Any) -> None:
    data = joined(message, message)
    heads = [*range(40), *range(len(data) // 2 - 20, len(data) // 2 + 40), *range(len(data) - 20, len(data))]
    for cut in heads:
        assert len(read(data, [cut])) == 2


def test_byte_by_byte() -> None:
    data = joined([np.arange(9.0), "a"], np.arange(LARGE / 8))
    reader = FrameReader()
    found: list[Any] = []
    for start in range(len(data)):
        found += reader.feed(data[start : start + 1])
    assert found[0][1] == "a"
    assert found[1].tolist() == list(range(LARGE // 8))


def test_a_large_array_is_not_copied_into_the_frame() -> None:
    array = np.arange(LARGE / 8)
    _, *beside = pack({"rows": array})
    assert [len(part) for part in beside] == [array.nbytes]
    assert np.shares_memory(np.frombuffer(beside[0]), array)
    assert len(pack(array[:-1])) == 1


def test_a_large_array_is_not_copied_out_of_the_bytes_either() -> None:
    (found,) = FrameReader().feed(joined(np.arange(LARGE)))
    base = found
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, memoryview)


@pytest.mark.parametrize("rows", [10, LARGE])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "?", "M8[us]"])
def test_layout_and_type_stay(rows: int, order: Any, dtype: str) -> None:
    array = np.ones((rows, 3)).astype("i8").astype(dtype, order=order)
    (found,) = FrameReader().feed(joined(array))
    assert (found.dtype, found.flags.c_contiguous) == (array.dtype, array.flags.c_contiguous)
    assert found.flags.f_contiguous == array.flags.f_contiguous
    assert (found == array).all()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(LARGE, LARGE + 40), min_size=1, max_size=3), st.text(max_size=40))
def test_arrays_lie_where_their_type_wants_them(sizes: list[int], text: str) -> None:
    """What is not aligned is slower everywhere, and refused by some libraries."""
    message = [text, *(np.zeros(size, dtype=np.uint8) for size in sizes), np.arange(float(LARGE))]
    for found in read(joined(message, message), []):
        assert found[-1].flags.aligned
        assert found[-1].tolist()[-1] == LARGE - 1


def test_a_received_array_may_be_written_to_and_keeps_what_came() -> None:
    reader = FrameReader()
    data = joined(np.zeros(LARGE))
    (first,) = reader.feed(data)
    first += 1
    (second,) = reader.feed(data)
    assert (first.sum(), second.sum()) == (LARGE, 0)


def test_an_error_arrives_with_its_reason() -> None:
    (found,) = FrameReader().feed(joined(PredictionError("ValueError:\nno")))
    assert isinstance(found, PredictionError)
    assert found.reason == "ValueError: no"


def test_over_a_socket_until_the_other_side_closes() -> None:
    ours, theirs = socket.socketpair()
    messages = [{"a": 1}, np.arange(300_000.0), "end"]

    def talk() -> None:
        with theirs:
            for message in messages:
                send(theirs, message)

    thread = threading.Thread(target=talk)
    thread.start()
    with ours:
        found = list(receive(ours, FrameReader()))
    thread.join()
    assert found[0] == {"a": 1}
    assert found[1].tolist()[-1] == 299_999
    assert found[2] == "end"


def test_what_cannot_be_pickled_sends_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises((pickle.PicklingError, TypeError, AttributeError)):
            send(ours, [np.arange(LARGE), threading.Lock()])
        send(ours, "good")
        assert next(receive(theirs, FrameReader())) == "good"
