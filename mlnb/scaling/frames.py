"""Messages between our own processes on one machine: pickles in frames, large arrays beside them uncopied.

Both ends are this program, run by one person and joined by a socket pair that nobody else can open.
"""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

__all__ = ["FrameReader", "pack", "receive", "send"]

_HEAD = struct.Struct("<II")  # bytes of the pickle, number of buffers
_SIZE = struct.Struct("<Q")
_LARGE = 2**16  # bytes from which an array is not copied into the pickle
_ALIGNMENT = 16  # bytes: malloc's; arrays that lie askew are slow, and refused by some libraries


def pack(message: Any) -> list[bytes | memoryview]:
    """Return the parts of a frame, to be written one after the other."""
    buffers: list[memoryview] = []

    def beside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _LARGE:
            return True
        buffers.append(raw)
        return False

    head = pickle.dumps(message, protocol=5, buffer_callback=beside)
    sizes = b"".join(_SIZE.pack(buffer.nbytes) for buffer in buffers)
    if buffers:
        head += bytes(-(_HEAD.size + len(sizes) + len(head)) % _ALIGNMENT)  # pickle reads no further than its end
    parts: list[bytes | memoryview] = [_HEAD.pack(len(head), len(buffers)) + sizes + head]
    for buffer in buffers:
        parts.append(buffer)
        if padding := bytes(_padded(buffer.nbytes) - buffer.nbytes):
            parts.append(padding)
    return parts


def _padded(size: int) -> int:
    return size + -size % _ALIGNMENT


class FrameReader:
    """Puts messages together from the bytes of a stream, however they come.

    Examples
    --------
    >>> reader = FrameReader()
    >>> frame = b"".join(pack({"rows": 3}))
    >>> list(reader.feed(frame[:5])), list(reader.feed(frame[5:]))
    ([], [{'rows': 3}])
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._needed = _HEAD.size

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Any]:
        """Yield the messages that ``data`` completes."""
        self._data += data
        while len(self._data) >= self._needed:
            sizes = self._sizes()
            if sizes is None or len(self._data) < self._needed:
                return
            yield self._take(sizes)

    def _sizes(self) -> tuple[int, list[int]] | None:
        """Return the lengths of pickle and buffers, and note how much is needed; None while the head is not whole."""
        head, count = _HEAD.unpack_from(self._data)
        start = _HEAD.size + count * _SIZE.size
        if len(self._data) < start:
            self._needed = start
            return None
        sizes = [_SIZE.unpack_from(self._data, _HEAD.size + number * _SIZE.size)[0] for number in range(count)]
        self._needed = start + head + sum(map(_padded, sizes))
        return head, sizes

    def _take(self, sizes: tuple[int, list[int]]) -> Any:
        head, buffers = sizes
        frame, end = self._data, self._needed
        if len(frame) == end:  # the usual case: the frame is all there is, and is given away as it is
            self._data = bytearray()
        else:
            self._data = frame[end:]
        self._needed = _HEAD.size
        view = memoryview(frame)
        place = _HEAD.size + len(buffers) * _SIZE.size
        pickled = view[place : place + head]
        place += head
        parts = []
        for size in buffers:
            parts.append(view[place : place + size])
            place += _padded(size)
        return pickle.loads(pickled, buffers=parts)


def send(sock: socket.socket, message: Any) -> None:
    """Send a message on a blocking socket."""
    parts = pack(message)
    if len(parts) == 1:
        sock.sendall(parts[0])
        return
    for part in parts:
        sock.sendall(part)


def receive(sock: socket.socket, reader: FrameReader) -> Iterator[Any]:
    """Yield the messages that come on a blocking socket until the other side closes it."""
    while True:
        try:
            data = sock.recv(2**20)
        except ConnectionError:
            return
        if not data:
            return
        yield from reader.feed(data)
