from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlnb.errors import IntegrityError, RegistryUnavailableError
from mlnb.registry.storage.blobs import Blobs
from mlnb.registry.storage.store import FolderStore, Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def files(store: FolderStore) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


def test_a_key_is_created_once(store: FolderStore) -> None:
    assert store.create("a/1", b"first")
    assert not store.create("a/1", b"second")
    assert bytes(store.read("a/1")) == b"first"
    assert bytes(store.map("a/1")) == b"first"
    assert store.exists("a/1")
    assert not store.exists("a/2")
    assert files(store) == ["a/1"]


def test_of_many_writers_one_gets_the_key(store: FolderStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.create("a/1", str(number).encode()), range(64)))
    assert won.count(True) == 1
    assert bytes(store.read("a/1")) == str(won.index(True)).encode()


def test_a_write_that_fails_leaves_nothing(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RegistryUnavailableError, match="No space left"):
        store.create("a/1", b"content")
    assert files(store) == []


LIMITED = """
import resource, signal, sys
from pathlib import Path
from mlnb.errors import RegistryUnavailableError
from mlnb.registry.storage.store import FolderStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # the system refuses to write more, as a full disk does
try:
    FolderStore(Path(sys.argv[1])).create("a/1", bytes(1_000_000))
except RegistryUnavailableError as error:
    print(error)
"""


def test_a_system_that_takes_no_more_bytes_is_said_and_leaves_nothing(store: FolderStore) -> None:
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, str(store.root)], check=True, capture_output=True, text=True
    ).stdout
    assert "File too large" in said
    assert "disk with room" in said
    assert files(store) == []


FORBIDDEN = """
import os, sys
from pathlib import Path
from mlnb.errors import RegistryUnavailableError
from mlnb.registry.storage.store import FolderStore
if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
try:
    FolderStore(Path(sys.argv[1])).create("a/1", b"x")
except RegistryUnavailableError as error:
    print(error)
"""


def test_a_folder_without_permission_is_said(tmp_path: Path) -> None:
    place = tmp_path / "store"
    place.mkdir(mode=0o555)
    said = subprocess.run(
        [sys.executable, "-c", FORBIDDEN, str(place)], check=True, capture_output=True, text=True
    ).stdout
    assert "Permission denied" in said
    assert "folder that you may write to" in said


def test_what_a_crashed_writer_left_is_not_listed_and_swept_after_a_day(store: FolderStore) -> None:
    store.create("a/1", b"whole")
    abandoned, recent = store.root / "tmp" / "0123", store.root / "tmp" / "4567"
    abandoned.write_bytes(b"ha")
    recent.write_bytes(b"ha")
    os.utime(abandoned, (0, 0))
    assert store.keys("a") == ["a/1"]
    store.sweep()
    assert files(store) == ["a/1", "tmp/4567"]


def test_the_umask_decides_who_may_read(store: FolderStore) -> None:
    store.create("a/1", b"shared")
    reference = store.root / "reference"
    reference.touch()
    mode = stat.S_IMODE((store.root / "a" / "1").stat().st_mode)
    assert mode == stat.S_IMODE(reference.stat().st_mode)


def test_folders_are_listed_without_files_and_links(store: FolderStore) -> None:
    store.create("models/b/x", b"")
    store.create("models/a/x", b"")
    store.create("models/file", b"")
    (store.root / "models" / "linked").symlink_to(store.root / "models" / "a")
    assert store.folders("models") == ["a", "b"]
    assert store.folders("nothing") == []


def test_many_small_keys_are_read_in_order(store: FolderStore) -> None:
    contents = [b"x" * size for size in (0, 5, 2**16 - 1, 2**16, 2**16 + 1, 3_000_000)]
    for at, content in enumerate(contents):
        store.create(f"a/{at}", content)
    assert store.read_all([f"a/{at}" for at in range(len(contents))]) == contents
    assert store.read_all([]) == []
    with pytest.raises(FileNotFoundError):
        store.read_all(["a/7"])


def test_keys_move_and_go(store: FolderStore) -> None:
    store.create("a/1", b"x")
    store.move("a/1", "b/2")
    assert files(store) == ["b/2"]
    with pytest.raises(FileNotFoundError):
        store.move("a/1", "b/3")
    store.remove("b/2")
    store.remove("b/2")
    assert files(store) == []


def test_an_empty_key_reads_back(store: FolderStore) -> None:
    store.create("a/1", b"")
    assert bytes(store.read("a/1")) == bytes(store.map("a/1")) == b""


def test_a_mapped_key_can_be_written_to_and_stays_as_it_is(store: FolderStore) -> None:
    store.create("a/1", b"abc")
    view = store.map("a/1")
    view[0] = ord("z")
    assert bytes(view) == b"zbc"
    assert bytes(store.read("a/1")) == b"abc"


class TestSymbolicLinks:
    """They could lead out of the store, so none below its root is followed."""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        folder = tmp_path / "outside"
        folder.mkdir()
        (folder / "1").write_bytes(b"secret")
        return folder

    def test_a_linked_file_is_not_read(self, store: FolderStore, outside: Path) -> None:
        store.create("a/0", b"")
        (store.root / "a" / "1").symlink_to(outside / "1")
        for read in (store.read, store.map, lambda key: store.read_all([key])):
            with pytest.raises(RegistryUnavailableError, match="symbolic link"):
                read("a/1")
        with pytest.raises(RegistryUnavailableError, match="symbolic link"):
            store.create("a/1", b"new")
        assert (outside / "1").read_bytes() == b"secret"

    def test_a_linked_folder_is_neither_read_nor_written(self, store: FolderStore, outside: Path) -> None:
        store.create("b/0", b"")
        (store.root / "a").symlink_to(outside)
        for act in (
            lambda: store.read("a/1"),
            lambda: store.read_all(["a/1"]),
            lambda: store.keys("a"),
            lambda: store.create("a/2", b"new"),
            lambda: store.create("a/deep/2", b"new"),
            lambda: store.move("b/0", "a/0"),
            lambda: store.remove("a/1"),
        ):
            with pytest.raises(RegistryUnavailableError, match="symbolic link"):
                act()
        assert [path.name for path in outside.iterdir()] == ["1"]

    def test_the_root_itself_may_be_one(self, tmp_path: Path, outside: Path) -> None:
        (tmp_path / "link").symlink_to(outside)
        store = FolderStore(tmp_path / "link")
        assert store.create("a/1", b"x")
        assert bytes(store.read("a/1")) == b"x"


def test_something_else_in_the_place_of_a_key_is_said(store: FolderStore) -> None:
    (store.root / "a" / "1").mkdir(parents=True)
    with pytest.raises(RegistryUnavailableError, match="is no file"):
        store.create("a/1", b"x")


def test_the_kind_of_store_goes_by_the_place(tmp_path: Path) -> None:
    assert open_store(tmp_path).url == open_store(f"file://{tmp_path}").url == str(tmp_path)
    assert open_store("memory://somewhere").url == "memory://somewhere"


@pytest.fixture(params=["folder", "memory"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(tmp_path / "store" if request.param == "folder" else f"memory://{tmp_path.name}")


class TestBlobs:
    def test_the_same_bytes_are_stored_once(self, store: FolderStore) -> None:
        blobs = Blobs(store)
        assert blobs.put([b"model"]) == blobs.put([b"model"])
        assert len(files(store)) == 1

    def test_large_and_small_come_back_in_order(self, anywhere: Store) -> None:
        blobs = Blobs(anywhere)
        contents = [bytes([at]) * size for at, size in enumerate((3_000_000, 0, 10, 2_000_000))]
        digests = blobs.put(contents)
        assert [bytes(content) for content in blobs.get(digests)] == contents
        assert [bytes(content) for content in blobs.get(digests, mapped=True)] == contents
        assert blobs.missing(digests) == []
        assert sorted(blobs.stored()) == sorted(digests)

    def test_one_flipped_bit_is_refused_and_the_file_named(self, store: FolderStore) -> None:
        blobs = Blobs(store)
        (digest,) = blobs.put([b"model"])
        path = store.root / "blobs" / "sha256" / digest[:2] / digest
        path.write_bytes(b"mode" + bytes([b"l"[0] ^ 1]))
        with pytest.raises(IntegrityError, match=digest):
            blobs.get([digest])

    def test_one_that_is_gone_is_named(self, anywhere: Store) -> None:
        with pytest.raises(IntegrityError, match="abab is missing"):
            Blobs(anywhere).get(["ab" * 32])

    def test_what_is_withdrawn_is_given_back_or_destroyed(self, anywhere: Store) -> None:
        blobs = Blobs(anywhere)
        first, second = blobs.put([b"first", b"second!"])
        blobs.withdraw(first, by="me")
        blobs.withdraw(first, by="you")
        blobs.withdraw(second, by="me")
        assert blobs.missing([first, second]) == [first, second]
        assert blobs.stored() == []
        assert bytes(blobs.get([first])[0]) == b"first"  # whoever reads meanwhile still can
        blobs.give_back(first, by="you")
        assert blobs.missing([first]) == [first]
        blobs.give_back(first, by="me")
        assert blobs.destroy(second, by="you") == 0
        assert blobs.destroy(second, by="me") == len(b"second!")
        assert blobs.stored() == [first]

    def test_what_a_collector_that_was_killed_withdrew_is_given_back(self, anywhere: Store) -> None:
        blobs = Blobs(anywhere)
        (digest,) = blobs.put([b"model"])
        blobs.withdraw(digest, by="gone")
        blobs.give_back_all()
        assert blobs.stored() == [digest]

    def test_a_damaged_file_is_mended_when_the_same_bytes_come_again(self, store: FolderStore) -> None:
        blobs = Blobs(store)
        (digest,) = blobs.put([b"model"])
        path = store.root / "blobs" / "sha256" / digest[:2] / digest
        path.write_bytes(b"wrong")
        blobs.put([b"model"])
        assert bytes(blobs.get([digest])[0]) == b"model"
