from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlnb.errors import IntegrityError, RegistryUnavailableError
from mlnb.registry.store import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def files(store: FolderStore) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


def test_a_key_is_created_once(store: FolderStore) -> None:
    assert store.create("a/1", b"first")
    assert not store.create("a/1", b"second")
    assert store.read("a/1") == b"first"
    assert files(store) == ["a/1"]


def test_of_many_writers_one_gets_the_key(store: FolderStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.create("a/1", str(number).encode()), range(64)))
    assert won.count(True) == 1
    assert store.read("a/1") == str(won.index(True)).encode()


def test_a_write_that_fails_leaves_nothing(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RegistryUnavailableError, match="No space left"):
        store.create("a/1", b"content")
    assert files(store) == []


def test_what_a_crashed_writer_left_is_not_listed(store: FolderStore) -> None:
    store.create("a/1", b"whole")
    (store.root / "a" / ".0123.tmp").write_bytes(b"ha")
    assert store.keys("a") == ["a/1"]


def test_the_same_bytes_are_stored_once(store: FolderStore) -> None:
    assert store.create_blob(b"model") == store.create_blob(b"model")
    assert len(files(store)) == 1


def test_one_flipped_bit_is_refused_and_the_file_named(store: FolderStore) -> None:
    digest = store.create_blob(b"model")
    path = store.root / "blobs" / "sha256" / digest[:2] / digest
    path.write_bytes(b"mode" + bytes([b"l"[0] ^ 1]))
    with pytest.raises(IntegrityError, match=digest):
        store.read_blob(digest)


def test_a_blob_that_is_gone_is_named(store: FolderStore) -> None:
    with pytest.raises(IntegrityError, match="is missing"):
        store.read_blob("ab" * 32)


def test_the_umask_decides_who_may_read(store: FolderStore) -> None:
    store.create("a/1", b"shared")
    reference = store.root / "reference"
    reference.touch()
    mode = stat.S_IMODE((store.root / "a" / "1").stat().st_mode)
    assert mode == stat.S_IMODE(reference.stat().st_mode)


def test_folders_are_listed_without_files(store: FolderStore) -> None:
    store.create("models/b/x", b"")
    store.create("models/a/x", b"")
    store.create("models/file", b"")
    assert store.folders("models") == ["a", "b"]
    assert store.folders("nothing") == []
