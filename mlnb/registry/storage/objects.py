"""A registry's files in a bucket: a conditional put is *create this key if it is not there*."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlnb.errors import MissingLibraryError, RegistryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Buffer

__all__ = ["ObjectStore"]

_PART = 16 * 2**20  # bytes per request; longer content goes up and comes down in parts side by side
_AT_ONCE = 16
_WRITERS = 8  # contents going up at once, each with 4 parts
_TRIES = 6
_WRITER = "mlnb-writer"
_MEMORY = threading.Lock()

_TAKEN = {"PreconditionFailed", "412", "FileExistsError"}
_RACED = {"ConditionalRequestConflict", "OperationAborted", "409"}
_BROKEN_OFF = {"ClientPayloadError", "IncompleteReadError", "ReadTimeoutError", "ResponseStreamingError"}


class ObjectStore:
    """Keys are relative paths with ``/``; a key once created never changes.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, or ``memory://prefix`` for what lives as long as this process. Credentials, region and
        endpoint are those of every AWS tool: ``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL`` and so on.

    Raises
    ------
    RegistryUnavailableError
        If this is no such URL, or names a service that is not known to create a key atomically.
    MissingLibraryError
        If s3fs or fsspec is not installed.

    Notes
    -----
    For any number of threads. After a fork, and where it is unpickled, it opens connections of its own.

    What the service refuses is a RegistryUnavailableError. S3 itself drops the parts of uploads that were cut short,
    if the bucket has the lifecycle rule AbortIncompleteMultipartUpload; they are never visible as keys.

    Examples
    --------
    >>> store = ObjectStore("memory://example")
    >>> store.create("a/1", b"first"), store.create("a/1", b"second")
    (True, False)
    >>> bytes(store.read("a/1")), store.keys("a")
    (b'first', ['a/1'])
    """

    def __init__(self, url: str) -> None:
        protocol, _, path = url.partition("://")
        self.url = url.rstrip("/")
        self._root = path.strip("/")
        if protocol not in _SERVICES or not self._root:
            raise RegistryUnavailableError(
                f"{url!r} is no place for a registry: give s3://bucket/prefix (s3a:// is the same), memory://prefix "
                "for tests, or a folder. Other services are not known to create a key only if it is not there."
            )
        self._service = _SERVICES[protocol]
        self._opened = {os.getpid(): self._open()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[str]]:
        return type(self), (self.url,)

    def create(self, key: str, content: Buffer) -> bool:
        """Write ``content`` under ``key`` unless the key is taken; say whether it was written.

        Parameters
        ----------
        key : str
        content : Buffer
            C-contiguous. Whole under the key, or not at all.

        Raises
        ------
        RegistryUnavailableError
            If the service refuses.
        """
        view = _bytes(content)
        with self._reachable(key, may_be_missing=False):
            return self._service.create(self._files, self._path(key), view)

    def put_all(self, contents: Sequence[Buffer], *, key_of: Callable[[str], str]) -> list[str]:
        """Write each content under the key that ``key_of`` makes of its SHA-256, a few side by side."""
        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="mlnb-upload") as pool:
            return list(pool.map(lambda content: self._put(_bytes(content), key_of), contents))

    def _put(self, content: memoryview, key_of: Callable[[str], str]) -> str:
        digest = hashlib.sha256(content).hexdigest()
        key = key_of(digest)
        try:
            if self.size(key) != len(content):
                self.remove(key)  # cut short by somebody's hand: the service itself never does that
        except FileNotFoundError:
            pass
        else:
            if self.exists(key):
                return digest  # before an upload in vain
        self.create(key, content)
        return digest

    def read(self, key: str) -> memoryview:
        """Return the bytes under ``key``, in writable memory of the caller's own.

        Raises
        ------
        FileNotFoundError
            If there is no such key.
        """
        path = self._path(key)
        with self._reachable(key):
            found = self._files.info(path)
            if found["type"] != "file":
                raise FileNotFoundError(path)
        content = np.empty(found["size"], dtype=np.uint8).data  # not filled with zeros first
        for start in range(0, len(content), _AT_ONCE * _PART):  # a few parts at a time: never the whole twice
            self._fill(key, start, content[start : start + _AT_ONCE * _PART])
        return content

    def map(self, key: str) -> memoryview:
        """Return what ``read`` returns: a bucket has no memory to share."""
        return self.read(key)

    def read_all(self, keys: Sequence[str]) -> list[bytes]:
        """Return the bytes under many small ``keys``, in order, fetched side by side.

        Raises
        ------
        FileNotFoundError
            If one of them is missing.
        """
        return self._fetch(keys, None, None)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys directly under the folder ``prefix``, sorted, as they are now."""
        return [f"{prefix}/{name}" if prefix else name for name in self._entries(prefix, "file")]

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly under ``prefix``, sorted: those with a key in them."""
        return self._entries(prefix, "directory")

    def exists(self, key: str) -> bool:
        """Say whether there is content under ``key``; a folder is none."""
        try:
            with self._reachable(key):
                return bool(self._files.info(self._path(key))["type"] == "file")
        except FileNotFoundError:
            return False

    def size(self, key: str) -> int:
        """Return the number of bytes under ``key``.

        Raises
        ------
        FileNotFoundError
        """
        with self._reachable(key):
            return int(self._files.info(self._path(key))["size"])

    def move(self, source: str, target: str) -> None:
        """Rename ``source``.

        Raises
        ------
        FileNotFoundError
            If ``source`` is gone.

        Notes
        -----
        A bucket knows no rename: this copies, then removes, and a crash in between leaves both.
        """
        with self._reachable(source):
            self._files.cp_file(self._path(source), self._path(target))
        self.remove(source)

    def remove(self, key: str) -> None:
        """Remove ``key``; gone already is fine."""
        try:
            with self._reachable(key):
                self._files.rm_file(self._path(key))
        except FileNotFoundError:
            pass

    def locate(self, key: str) -> str:
        """Return how messages name ``key``."""
        return f"{self.url}/{key}" if key else self.url

    def sweep(self) -> None:
        """Do nothing: a writer that crashes leaves no key here."""

    @property
    def _files(self) -> Any:
        """The fsspec filesystem of this process: connections and their loop do not survive a fork.

        The parent's stays referenced: to finalize it in the child would close what the parent is using.
        """
        return self._opened.get(os.getpid()) or self._opened.setdefault(os.getpid(), self._open())

    def _open(self) -> Any:
        try:
            return self._service.open()
        except ImportError as error:
            raise MissingLibraryError(
                f"{self.url} needs {error.name or 's3fs'}, which is not installed. Run: pip install 'mlnb[s3]'"
            ) from error

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def _entries(self, prefix: str, kind: str) -> list[str]:
        try:
            with self._reachable(prefix):
                found = self._files.ls(self._path(prefix), detail=True, refresh=True)
        except FileNotFoundError:
            return []
        folder = self._path(prefix) + "/"
        names = [entry["name"].lstrip("/") for entry in found if entry["type"] == kind]  # memory:// has a leading /
        # The folder itself is not in it: consoles make an empty object `folder/` where a person asks for a folder.
        return sorted(name.removeprefix(folder) for name in names if name.startswith(folder) and name != folder)

    def _fill(self, key: str, start: int, window: memoryview) -> None:
        edges = list(range(0, len(window), _PART))
        ends = [min(edge + _PART, len(window)) for edge in edges]
        parts = self._fetch([key] * len(edges), [start + edge for edge in edges], [start + end for end in ends])
        for edge, end, part in zip(edges, ends, parts, strict=True):
            with self._reachable(key):
                window[edge:end] = part  # ValueError if the part came back short

    def _fetch(self, keys: Sequence[str], starts: list[int] | None, ends: list[int] | None) -> list[bytes]:
        """Return a range of each key, or all of it; what breaks off midway is asked for once more."""
        paths = [self._path(key) for key in keys]
        for _ in range(2):
            with self._reachable(""):
                # max_concurrency=1 spares the HEAD request with which s3fs would ask for each size first.
                got = self._files.cat_ranges(paths, starts, ends, batch_size=_AT_ONCE, max_concurrency=1)
            failures = {key: one for key, one in zip(keys, got, strict=True) if isinstance(one, Exception)}
            if any(_code(failure) not in _BROKEN_OFF for failure in failures.values()) or not failures:
                break
        for key, failure in failures.items():
            with self._reachable(key):
                raise failure
        return list(got)

    @contextmanager
    def _reachable(self, key: str, *, may_be_missing: bool = True) -> Iterator[None]:
        """Turn whatever the service or a library below says into an error that names ``key``."""
        try:
            yield
        except Exception as error:  # botocore, aiohttp and fsspec each have a tree of their own
            code = _code(error)
            if isinstance(error, FileNotFoundError) and may_be_missing and code != "NoSuchBucket":
                raise FileNotFoundError(errno.ENOENT, "No such key", self.locate(key)) from error
            reason = " ".join(str(error).split()).rstrip(".") or code
            raise RegistryUnavailableError(f"{self.locate(key)}: {reason}. {_NEXT.get(code, _TRY_AGAIN)}") from error


def _open_s3() -> Any:
    from s3fs import S3FileSystem

    files = S3FileSystem(
        skip_instance_cache=True,  # another store may mean another endpoint: the environment is not in its cache's key
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": 5,
            "read_timeout": 30,
            "max_pool_connections": _AT_ONCE,
            "retries": {"mode": "standard", "total_max_attempts": 3},
        },
    )
    # botocore repeats requests and rewinds the body for it. s3fs would repeat the call on top, with a body that has
    # been read to its end; of a plain io.BytesIO S3 then takes the empty rest for the content.
    files.retries = 1
    return files


def _open_memory() -> Any:
    from fsspec.implementations.memory import MemoryFileSystem

    return MemoryFileSystem()


def _create_object(files: Any, path: str, content: memoryview) -> bool:
    """Put ``content`` under the condition If-None-Match.

    The service says 412 to the second of two writers; it may say 409 to one that came while another was writing, which
    must ask again: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """
    writer = secrets.token_hex(16)
    tries = 0
    while True:
        tries += 1
        try:
            files.pipe_file(
                path, _body(content), chunksize=_PART, max_concurrency=4, mode="create", Metadata={_WRITER: writer}
            )
        except Exception as error:
            code = _code(error)
            if code in _TAKEN:
                return _writer(files, path) == writer
            if code not in _RACED or tries == _TRIES:
                raise
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 (so that two writers do not meet again)
        else:
            return True


def _writer(files: Any, path: str) -> str | None:
    """Say who wrote ``path``: our own put is refused too, if its first answer was lost and botocore sent it again."""
    try:
        found: str | None = files.metadata(path).get(_WRITER)
    except FileNotFoundError:
        return None
    return found


def _create_in_memory(files: Any, path: str, content: memoryview) -> bool:
    with _MEMORY:  # fsspec looks, then writes
        if files.isfile(path):
            return False
        files.pipe_file(path, bytes(content))
    return True


class _Service(NamedTuple):
    open: Callable[[], Any]
    create: Callable[[Any, str, memoryview], bool]


_SERVICES = {
    "s3": _Service(_open_s3, _create_object),
    "s3a": _Service(_open_s3, _create_object),
    "memory": _Service(_open_memory, _create_in_memory),
}


class _Whole(io.BytesIO):
    """A body for one put. A file, not bytes: those make aiohttp warn of a blocked loop from 1 MiB on."""

    def __len__(self) -> int:
        return self.getbuffer().nbytes


class _Parts:
    """What s3fs slices into the bodies of a multipart upload; only the parts under way are copied."""

    def __init__(self, content: memoryview) -> None:
        self._content = content

    def __len__(self) -> int:
        return len(self._content)

    def __getitem__(self, part: slice) -> io.BytesIO:
        return _Whole(self._content[part])


def _bytes(content: Buffer) -> memoryview:
    view = memoryview(content)
    return view.cast("B") if view.nbytes else memoryview(b"")  # an empty array of several dimensions has no cast


def _body(content: memoryview) -> _Whole | _Parts:
    return _Whole(content) if len(content) < 2 * _PART else _Parts(content)  # s3fs puts less than two parts at once


def _code(error: BaseException) -> str:
    """Return S3's name for ``error``, else its class's."""
    for found in (error, error.__cause__):
        response = getattr(found, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code"))
    return type(error).__name__


_TRY_AGAIN = "Check the network and AWS_ENDPOINT_URL, then try again."
_NEXT = dict.fromkeys(["AccessDenied", "AllAccessDisabled", "403"], "Ask for the rights to get, put, delete and list.")
_NEXT |= dict.fromkeys(["NoSuchBucket", "InvalidBucketName"], "Create the bucket, or correct its name.")
_NEXT["ParamValidationError"] = "Correct the bucket's name."
_NEXT["SSLError"] = "Set AWS_CA_BUNDLE to the file of who signed its certificate, or correct AWS_ENDPOINT_URL."
_NEXT |= dict.fromkeys(
    [
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "SignatureDoesNotMatch",
    ],
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to credentials that are valid there.",
)
