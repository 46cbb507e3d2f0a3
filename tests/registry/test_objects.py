from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
import pickle
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import psutil
import pytest
from typing_extensions import Buffer
from waiting import free_port, wait_until

from mlnb.errors import MissingLibraryError, RegistryUnavailableError
from mlnb.registry.storage import objects
from mlnb.registry.storage.objects import ObjectStore

RACER = """
import json, sys
from mlnb.registry.storage.objects import ObjectStore
store = ObjectStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps([n for n in range(50) if store.create(f"race/{n:02}", f"{sys.argv[2]} {n}".encode())]))
"""


@pytest.fixture
def bucket(s3_url: str) -> ObjectStore:
    return ObjectStore(s3_url)


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    url = request.getfixturevalue("s3_url") if request.param == "s3" else f"memory://{secrets.token_hex(6)}/models"
    return ObjectStore(url)


def test_a_key_is_created_once(store: ObjectStore) -> None:
    assert store.create("a/1", b"first")
    assert not store.create("a/1", b"second")
    assert bytes(store.read("a/1")) == b"first"


def test_of_many_writers_one_gets_the_key(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.create("a/1", str(number).encode()), range(64)))
    assert won.count(True) == 1
    assert bytes(store.read("a/1")) == str(won.index(True)).encode()


def test_threads_that_write_to_memory_take_turns() -> None:
    store = ObjectStore(f"memory://{secrets.token_hex(6)}")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change over wherever they can
    try:
        with ThreadPoolExecutor(8) as pool:
            won = [sum(pool.map(lambda _, key=f"a/{key}": store.create(key, b""), range(8))) for key in range(100)]
    finally:
        sys.setswitchinterval(interval)
    assert won == [1] * 100


def test_contents_are_put_under_their_digests_once(store: ObjectStore) -> None:
    contents = [str(number).encode() for number in range(20)]
    digests = store.put_all(contents, key_of=lambda digest: f"a/{digest}")
    assert digests == [hashlib.sha256(content).hexdigest() for content in contents]
    assert store.read_all([f"a/{digest}" for digest in digests]) == contents
    assert store.put_all(contents[:2], key_of=lambda digest: f"a/{digest}") == digests[:2]
    assert store.put_all([], key_of=str) == []


def test_one_that_was_cut_short_is_put_again(store: ObjectStore) -> None:
    (digest,) = store.put_all([b"whole"], key_of=lambda digest: f"a/{digest}")
    store.remove(f"a/{digest}")
    store.create(f"a/{digest}", b"who")
    store.put_all([b"whole"], key_of=lambda digest: f"a/{digest}")
    assert bytes(store.read(f"a/{digest}")) == b"whole"


def test_of_many_put_at_once_a_refused_one_is_named(bucket: ObjectStore) -> None:
    with pytest.raises(RegistryUnavailableError, match="a/denied"):
        bucket.put_all([b"1", b"2"], key_of=lambda digest: f"a/denied{digest}")


def test_any_buffer_is_content(store: ObjectStore) -> None:
    contents: list[Buffer] = [
        b"x",
        bytearray(b"x"),
        memoryview(b"-x-")[1:2],
        memoryview(b""),
        np.ones((2, 3)).data,
        np.ones((0, 3)).data,
    ]
    for number, content in enumerate(contents):
        assert store.create(f"a/{number}", content)
        assert store.read(f"a/{number}") == memoryview(content).tobytes()


def test_what_was_read_is_the_readers_own(store: ObjectStore) -> None:
    store.create("a/1", b"first")
    for content in (store.read("a/1"), store.map("a/1")):
        content[0] = ord("F")
    assert bytes(store.read("a/1")) == b"first"


def test_many_are_read_at_once_in_order(store: ObjectStore) -> None:
    keys = [f"history/{number:08}.json" for number in range(50)]
    for key in keys:
        store.create(key, key.encode())
    assert store.read_all([*reversed(keys), keys[0]]) == [key.encode() for key in [*reversed(keys), keys[0]]]
    assert store.read_all([]) == []
    with pytest.raises(FileNotFoundError, match="history/none"):
        store.read_all([*keys, "history/none"])


def test_what_is_missing_is_named(store: ObjectStore) -> None:
    store.create("a/b/1", b"")
    for key in ("a/none", "a/b"):  # a folder is no key
        assert not store.exists(key)
        for read in (store.read, store.map, lambda key: store.read_all([key])):
            with pytest.raises(FileNotFoundError) as caught:
                read(key)
            assert caught.value.filename == f"{store.url}/{key}" == store.locate(key)


def test_keys_and_folders_are_listed_apart_and_sorted(store: ObjectStore) -> None:
    for key in ("top", "models/b/x", "models/a/deep/er/still/x", "models/z", "models/y", "modelsandmore/x"):
        store.create(key, b"")
    assert store.keys("models") == ["models/y", "models/z"]
    assert store.folders("models") == ["a", "b"]
    assert store.keys("models/a/deep/er/still") == ["models/a/deep/er/still/x"]
    assert store.keys("") == ["top"]
    assert store.folders("") == ["models", "modelsandmore"]
    for nothing in ("none", "models/y", "model"):
        assert store.keys(nothing) == store.folders(nothing) == []


def test_names_may_have_dots_dashes_and_underscores(store: ObjectStore) -> None:
    names = ["0", "A", "a", "a-", "a..b", "a.b-c_d", "a_", "x" * 63]
    for name in names:
        store.create(f"models/{name}/versions/1.json", name.encode())
    assert store.folders("models") == sorted(names)
    assert [store.read(f"models/{name}/versions/1.json") for name in names] == [name.encode() for name in names]


def test_a_key_moves(store: ObjectStore) -> None:
    store.create("a/1", b"content")
    store.move("a/1", "b/2")
    assert store.keys("a") == []
    assert bytes(store.read("b/2")) == b"content"
    with pytest.raises(FileNotFoundError):
        store.move("a/1", "b/3")


def test_a_removed_key_may_be_created_again(store: ObjectStore) -> None:
    store.create("a/1", b"first")
    store.remove("a/1")
    store.remove("a/1")
    assert store.keys("a") == store.folders("") == []
    assert store.create("a/1", b"second")


def test_there_is_nothing_to_sweep(store: ObjectStore) -> None:
    store.create("a/1", b"content")
    store.sweep()
    assert store.keys("a") == ["a/1"]


def test_long_content_goes_in_parts(bucket: ObjectStore) -> None:
    content = os.urandom(50 * 2**20 + 1)
    assert bucket.create("a/long", memoryview(content))
    assert not bucket.create("a/long", memoryview(content))
    assert bytes(bucket.read("a/long")) == content


def test_of_two_long_contents_one_gets_the_key(bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PART", 5 * 2**20)  # the least that S3 takes
    contents = [bytes([number]) * (11 * 2**20) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda content: bucket.create("a/long", content), contents))
    assert won.count(True) == 1
    assert bytes(bucket.read("a/long")) == contents[won.index(True)]


def test_of_two_processes_one_gets_each_key(bucket: ObjectStore) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, bucket.url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda racer: json.loads(racer.communicate("go\n", timeout=60)[0]), racers)
    assert sorted(one + two) == list(range(50))
    expected = [f"{'one' if number in one else 'two'} {number}".encode() for number in range(50)]
    assert bucket.read_all(bucket.keys("race")) == expected


def test_a_listing_shows_what_another_process_wrote(bucket: ObjectStore) -> None:
    bucket.create("race/a", b"")
    assert bucket.keys("race") == ["race/a"]
    assert not bucket.exists("race/00")
    subprocess.run([sys.executable, "-c", RACER, bucket.url, "one"], input=b"\n", check=True, stdout=subprocess.DEVNULL)
    assert bucket.keys("race") == [*(f"race/{number:02}" for number in range(50)), "race/a"]
    assert bucket.exists("race/00")


def test_a_writer_that_met_another_tries_again(bucket: ObjectStore) -> None:
    assert bucket.create("a/raced", b"content")
    assert bytes(bucket.read("a/raced")) == b"content"


def test_a_writer_whose_answer_was_lost_knows_its_own(bucket: ObjectStore) -> None:
    assert bucket.create("a/lost", b"content")
    assert not bucket.create("a/lost", b"content")


def test_a_read_that_breaks_off_is_repeated(bucket: ObjectStore) -> None:
    content = os.urandom(2**20)
    bucket.create("a/cut", content)
    assert bytes(bucket.read("a/cut")) == content
    bucket.create("b/cut", content)
    assert bucket.read_all(["b/cut"]) == [content]


def test_a_folder_that_a_console_made_is_no_key(bucket: ObjectStore) -> None:
    bucket._files.pipe_file(f"{bucket._path('a')}/", b"")
    bucket.create("a/1", b"")
    assert bucket.keys("a") == ["a/1"]
    assert bucket.folders("") == ["a"]


def test_what_is_refused_says_what_to_do(bucket: ObjectStore) -> None:
    for refused in (
        lambda: bucket.create("a/denied", b""),
        lambda: bucket.read("a/denied"),
        lambda: bucket.exists("a/denied"),
        lambda: bucket.read_all(["a/denied"]),
        lambda: bucket.remove("a/denied"),
        lambda: bucket.move("a/denied", "a/1"),
    ):
        with pytest.raises(RegistryUnavailableError, match=r"models/a/denied: .+\. Ask for the rights to get, put"):
            refused()


@pytest.mark.parametrize("size", [1, 12 * 2**20])
def test_an_unknown_bucket_is_named(s3_environment: None, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(objects, "_PART", 5 * 2**20)
    store = ObjectStore("s3://no-such-bucket/models")
    for use in (
        lambda: store.create("a", bytes(size)),
        lambda: store.read("a"),
        lambda: store.read_all(["a", "b"]),
        lambda: store.keys("a"),
        lambda: store.folders(""),
        lambda: store.exists("a"),
        lambda: store.move("a", "b"),
        lambda: store.remove("a"),
    ):
        with pytest.raises(RegistryUnavailableError, match=r"s3://no-such-bucket/models.*Create the bucket") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_bucket_that_cannot_be_is_named(s3_environment: None) -> None:
    with pytest.raises(RegistryUnavailableError, match="Correct the bucket's name"):
        ObjectStore("s3://no bucket/models").keys("a")


def test_a_dead_endpoint_is_named(s3_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(RegistryUnavailableError, match=rf"{endpoint}.*Check the network and AWS_ENDPOINT_URL"):
        ObjectStore("s3://bucket/models").create("a", b"")


def test_missing_credentials_are_asked_for(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(RegistryUnavailableError, match=r"[Cc]redentials.*Set AWS_ACCESS_KEY_ID and"):
        ObjectStore(s3_url).read("a")


@pytest.mark.parametrize("url", ["file:///tmp", "gs://bucket", "http://host/path", "models", "s3://", "memory:///"])
def test_where_a_key_cannot_be_created_atomically_is_refused(url: str) -> None:
    with pytest.raises(RegistryUnavailableError, match="give s3://bucket/prefix"):
        ObjectStore(url)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingLibraryError, match=r"needs s3fs.*pip install 'mlnb\[s3\]'"):
        ObjectStore("s3://bucket/models")


def test_a_store_is_the_same_elsewhere(store: ObjectStore) -> None:
    store.create("a/1", b"content")
    twin = pickle.loads(pickle.dumps(store))
    assert repr(twin) == repr(store)
    assert bytes(twin.read("a/1")) == b"content"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # to show just that, from Python 3.12 on
def test_a_store_survives_a_fork(bucket: ObjectStore) -> None:
    bucket.create("a/1", b"parent's")

    def child() -> None:
        sys.exit(0 if bytes(bucket.read("a/1")) == b"parent's" and bucket.create("a/2", b"child's") else 1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert bytes(bucket.read("a/2")) == b"child's"


class _Patient(BaseHTTPRequestHandler):
    """An empty bucket that keeps its connections open, as S3 does and moto's server never."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"<ListBucketResult/>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def patient_port(s3_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Patient) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_store_that_is_dropped_leaves_no_socket(patient_port: int) -> None:
    def connections() -> int:
        return sum(at.raddr[1:] == (patient_port,) for at in psutil.Process().net_connections())

    def use_and_drop() -> int:
        store = ObjectStore("s3://bucket/models")
        assert store.keys("a") == []
        return connections()

    # On a thread of its own: Playwright leaves a loop on the main one, and s3fs would close its connections there.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(use_and_drop).result()
        pool.submit(gc.collect).result()
    wait_until(lambda: not connections())


def test_a_store_starts_no_thread_but_those_of_fsspecs_loop(bucket: ObjectStore) -> None:
    before = {thread.name for thread in threading.enumerate()}
    bucket.create("a/1", bytes(3 * 2**20))
    bucket.read("a/1")
    after = {thread.name for thread in threading.enumerate()}
    assert "fsspecIO" in after
    assert {name for name in after - before if not name.startswith("asyncio_")} == set()  # the loop's own executor
