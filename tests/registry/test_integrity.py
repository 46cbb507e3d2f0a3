"""Stored files that were changed, moved, linked or written by somebody else: nothing of them is unpickled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Fitted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from mlnb.errors import (
    IntegrityError,
    InvalidNameError,
    ModelNotFoundError,
    NoPreviousVersionError,
    RegistryFormatError,
    RegistryUnavailableError,
    UntrustedError,
    VersionInUseError,
)
from mlnb.registry.registry import ModelRegistry
from mlnb.registry.version import ModelVersion

CONSTANT = DummyClassifier().fit([[0.0], [1.0]], [1, 1])
BLOB_BYTES = 24  # of each content, spread over it; of the records all


class Trap:
    """A model that leaves a file when it is unpickled, with an array that is a file of its own."""

    def __init__(self, marker: str, array: Any) -> None:
        self.marker = marker
        self.array = array

    def predict(self, rows: Any) -> Any:
        return np.full(len(rows), self.array[-1])

    def __reduce__(self) -> Any:
        return _unpickled, (self.marker, self.array)


def _unpickled(marker: str, array: Any) -> Trap:
    Path(marker).touch()
    return Trap(marker, array)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-was-unpickled"


@pytest.fixture
def place(registry: ModelRegistry, marker: Path) -> Path:
    """A registry with a version that has an alias, and one that was deleted."""
    registry.register(Trap(str(marker), np.arange(10_000.0)), "iris", example=[[0.5]])
    registry.delete(str(registry.register(CONSTANT, "iris")))
    registry.set_alias("iris", "champion", 1)
    marker.unlink()
    return Path(registry.url)


def stored_files(version: ModelVersion) -> dict[str, str]:
    """Return the digest of each content by what it is."""
    assert version.golden_digest is not None
    own = {"signature": version.signature_digest, "golden": version.golden_digest}
    return own | {file.path: file.digest for file in version.files}


def path_of(place: Path, kind: str) -> Path:
    """Return where a registry keeps something."""
    if kind in RECORDS:
        return place / RECORDS[kind]
    digest = stored_files(ModelRegistry(place).version("iris"))[kind]
    return place / "blobs" / "sha256" / digest[:2] / digest


RECORDS = {
    "registry": "registry.json",
    "record": "models/iris/versions/00000001.json",
    "record of a deleted one": "models/iris/versions/00000002.json",
    "event": "models/iris/history/00000004.json",
    "tombstone": "models/iris/deleted/00000002.json",
}


def _restored(place: Path) -> object:
    """Bring a deleted version back, as whoever copies files by hand may, and read its record."""
    (place / RECORDS["tombstone"]).unlink(missing_ok=True)
    return ModelRegistry(place).versions("iris")


READERS: dict[str, list[Callable[[Path], object]]] = {
    "registry": [ModelRegistry],
    "record": [
        lambda place: ModelRegistry(place).versions("iris"),
        lambda place: ModelRegistry(place).load("iris@champion"),
        lambda place: ModelRegistry(place).collect(),
    ],
    "record of a deleted one": [_restored],
    "event": [
        lambda place: ModelRegistry(place).history("iris"),
        lambda place: ModelRegistry(place).load("iris@champion"),
        lambda place: ModelRegistry(place).delete("iris:1"),
    ],
    "signature": [
        lambda place: ModelRegistry(place).version("iris").signature,
        lambda place: ModelRegistry(place).copy("iris", place.parent / "copies"),
    ],
    "golden": [
        lambda place: ModelRegistry(place).golden("iris"),
        lambda place: ModelRegistry(place).card("iris"),
        lambda place: ModelRegistry(place).diff("iris:1", "iris:1"),
        lambda place: ModelRegistry(place).copy("iris", place.parent / "copies"),
    ],
    "model.pickle": [
        lambda place: ModelRegistry(place).load("iris"),
        lambda place: ModelRegistry(place).load("iris", mapped=True),
        lambda place: ModelRegistry(place).load("iris", allow_mismatch=True),
        lambda place: ModelRegistry(place).copy("iris", place.parent / "copies"),
    ],
    "buffers/00000": [
        lambda place: ModelRegistry(place).load("iris"),
        lambda place: ModelRegistry(place).load("iris", mapped=True),
        lambda place: ModelRegistry(place).copy("iris", place.parent / "copies"),
    ],
}


def test_every_file_of_a_registry_has_its_readers(place: Path) -> None:
    kept = {path for path in place.rglob("*") if path.is_file()}
    others = {path_of(place, kind) for kind in READERS} | {place / RECORDS["tombstone"]}
    deleted = ModelRegistry(place)._ledger.history("iris")[0]
    assert deleted.action == "registered"
    unnamed = {str(path.relative_to(place)) for path in kept - others}
    events = {f"models/iris/history/{number:08d}.json" for number in (1, 2, 3)}
    assert events <= unnamed  # like the fourth
    assert all(name.startswith("blobs/") for name in unnamed - events)  # those of the deleted version


@pytest.mark.parametrize("kind", READERS)
def test_one_flipped_bit_is_refused_wherever_it_is(place: Path, marker: Path, kind: str) -> None:
    path = path_of(place, kind)
    whole = path.read_bytes()
    every = range(len(whole)) if kind in RECORDS else np.linspace(0, len(whole) - 1, BLOB_BYTES, dtype=int).tolist()
    for at in every:
        changed = bytearray(whole)
        changed[at] ^= 1 << (at % 8)
        path.write_bytes(changed)
        for read in READERS[kind][: None if at % 16 == 0 else 1]:
            assert_refused(read, place, path, f"byte {at}, bit {at % 8}: {bytes(changed[at - 20 : at + 20])!r}")
    assert not marker.exists()
    path.write_bytes(whole)
    assert ModelRegistry(place).load("iris@champion").predict([[0]]).tolist() == [9999.0]
    assert marker.exists()  # so the trap is one


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    "shorten",
    [
        lambda whole: whole[:0],
        lambda whole: whole[:1],
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
    ],
    ids=["empty", "one byte", "one byte less", "half"],
)
def test_a_shortened_file_is_refused(place: Path, marker: Path, kind: str, shorten: Callable[[bytes], bytes]) -> None:
    path = path_of(place, kind)
    path.write_bytes(shorten(path.read_bytes()))
    for read in READERS[kind]:
        assert_refused(read, place, path, "shortened")
    assert not marker.exists()


@pytest.mark.parametrize("kind", READERS)
def test_a_file_with_something_after_it_is_refused(place: Path, marker: Path, kind: str) -> None:
    path = path_of(place, kind)
    path.write_bytes(path.read_bytes() + b"\0")
    for read in READERS[kind]:
        assert_refused(read, place, path, "longer")
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["signature", "golden", "model.pickle", "buffers/00000"])
def test_a_file_that_is_gone_is_named(place: Path, marker: Path, kind: str) -> None:
    path = path_of(place, kind)
    path.unlink()
    for read in READERS[kind]:
        assert_refused(read, place, path, "gone")
    assert not marker.exists()


def test_a_damaged_file_is_not_copied_and_leaves_no_version_behind(place: Path) -> None:
    path = path_of(place, "buffers/00000")
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(IntegrityError, match=path.name):
        ModelRegistry(place).copy("iris", place.parent / "copies")
    assert ModelRegistry(place.parent / "copies").names() == []


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}"])
def test_a_tombstone_says_what_it_says_by_being_there(place: Path, content: bytes) -> None:
    path_of(place, "tombstone").write_bytes(content)
    assert [version.number for version in ModelRegistry(place).versions("iris")] == [1]


def assert_refused(read: Callable[[Path], object], place: Path, path: Path, how: str) -> None:
    try:
        read(place)
    except Exception as error:
        if isinstance(error, IntegrityError) and path.name in str(error):
            return
        raise AssertionError(f"{path.name}, {how}: {type(error).__name__}: {error}") from error
    else:
        raise AssertionError(f"{path.name}, {how}: was read")


# Records in a place that is not theirs -------------------------------------------------------------------------------


def test_a_record_under_another_number_is_refused(registry: ModelRegistry, marker: Path) -> None:
    registry.register(Trap(str(marker), np.arange(3.0)), "iris")
    registry.register(CONSTANT, "iris")
    marker.unlink()
    folder = Path(registry.url) / "models" / "iris" / "versions"
    shutil.copy(folder / "00000001.json", folder / "00000002.json")
    with pytest.raises(IntegrityError, match="00000002"):
        ModelRegistry(registry.url).load("iris:2")
    assert not marker.exists()


def test_a_folder_copied_to_another_name_does_not_touch_the_first(registry: ModelRegistry) -> None:
    registry.register(CONSTANT, "iris")
    shutil.copytree(Path(registry.url) / "models" / "iris", Path(registry.url) / "models" / "lily")
    with pytest.raises(IntegrityError, match="lily"):
        ModelRegistry(registry.url).delete("lily:1")
    assert [str(version) for version in ModelRegistry(registry.url).versions("iris")] == ["iris:1"]


@pytest.mark.parametrize("stray", ["notes.txt", "00000001 (copy).json", "00000001.json~", "Icon\r", "x.json"])
@pytest.mark.parametrize("folder", ["versions", "history", "deleted"])
def test_a_file_that_is_no_record_is_passed_over(registry: ModelRegistry, folder: str, stray: str) -> None:
    registry.register(CONSTANT, "iris")
    registry.delete(str(registry.register(CONSTANT, "iris")))
    (Path(registry.url) / "models" / "iris" / folder / stray).write_text("{}")
    again = ModelRegistry(registry.url)
    assert [version.number for version in again.versions("iris")] == [1]
    assert again.register(CONSTANT, "iris").number == 3
    assert [event.number for event in again.history("iris")] == [1, 2, 3, 4]


def test_what_is_no_content_is_not_collected(registry: ModelRegistry) -> None:
    digest = registry.register(CONSTANT, "iris").signature_digest
    strays = [Path(registry.url) / "blobs" / "sha256" / digest[:2] / "notes.txt", Path(registry.url) / "tmp" / "folder"]
    strays[0].write_text("mine")
    strays[1].mkdir()
    os.utime(strays[1], (0, 0))
    assert registry.collect().files == 0
    assert all(stray.exists() for stray in strays)


# Trust ---------------------------------------------------------------------------------------------------------------


def test_a_registry_copied_to_another_place_is_not_trusted_until_it_is_said(place: Path, marker: Path) -> None:
    elsewhere = place.parent / "downloaded"
    shutil.copytree(place, elsewhere)
    for load in (
        lambda: ModelRegistry(elsewhere).load("iris"),
        lambda: ModelRegistry(elsewhere).load("iris", mapped=True, allow_mismatch=True),
        lambda: ModelRegistry(elsewhere).load(ModelRegistry(place).version("iris")),
        lambda: ModelRegistry(elsewhere).prove("iris"),
        lambda: ModelRegistry(elsewhere).copy("iris", place.parent / "copies"),
        lambda: ModelRegistry(elsewhere).copy("iris", place),
    ):
        with pytest.raises(UntrustedError, match=r"ModelRegistry\('.*downloaded'\)\.trust\(\)"):
            load()
    assert not marker.exists()
    assert not (place.parent / "copies" / "models").exists()
    assert ModelRegistry(elsewhere).version("iris").signature.names == ("x0",)  # all but the model may be looked at
    assert ModelRegistry(elsewhere).golden("iris") is not None
    assert "iris" in str(ModelRegistry(elsewhere).card("iris"))
    assert ModelRegistry(elsewhere).trust().load("iris").predict([[0]]).tolist() == [9999.0]
    assert marker.exists()
    assert ModelRegistry(elsewhere).trusted


def test_assumed_trust_is_that_of_one_object(place: Path) -> None:
    elsewhere = place.parent / "downloaded"
    shutil.copytree(place, elsewhere)
    assert ModelRegistry(elsewhere).assume_trusted().load("iris").predict([[0]]).tolist() == [9999.0]
    with pytest.raises(UntrustedError):
        ModelRegistry(elsewhere).load("iris")


def test_somebody_elses_registry_in_the_place_of_ones_own_is_not_trusted(place: Path, marker: Path) -> None:
    other = place.parent / "other"
    ModelRegistry(other).register(Trap(str(marker), np.arange(3.0)), "iris")
    marker.unlink()
    shutil.rmtree(place)
    other.rename(place)
    with pytest.raises(UntrustedError):
        ModelRegistry(place).load("iris")
    assert not marker.exists()


def test_what_an_object_itself_registered_it_loads_from_anybodys_registry(place: Path) -> None:
    elsewhere = place.parent / "downloaded"
    shutil.copytree(place, elsewhere)
    foreign = ModelRegistry(elsewhere)
    mine = foreign.register(CONSTANT, "mine")
    assert foreign.load(mine).predict([[0.0]]).tolist() == [1]
    with pytest.raises(UntrustedError):
        foreign.load("iris:1")


def test_a_registry_is_ones_own_by_whatever_path(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = place.parent / "link"
    link.symlink_to(place)
    monkeypatch.chdir(place.parent)
    for same in (str(link), f"{place}/../{place.name}", place.name, f"./{place.name}/", f"file://{place}"):
        assert ModelRegistry(same).trusted, same


def test_another_person_is_asked_first(place: Path, tmp_path: Path) -> None:
    def run(person: str, *, trusting: str = "") -> str:
        program = (
            "from mlnb import ModelRegistry; from mlnb.errors import UntrustedError; import sys\n"
            f"registry = ModelRegistry(sys.argv[1]){trusting}\n"
            "try:\n    print(registry.load('plain').predict([[1.0]]))\n"
            "except UntrustedError as error:\n    print(type(error).__name__)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(place)],
            env=os.environ | {"XDG_CONFIG_HOME": str(tmp_path / person)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    ModelRegistry(place).register(CONSTANT, "plain")
    assert run("config") == "[1]"  # oneself, in another process
    assert run("other") == "UntrustedError"
    assert run("other", trusting=".trust()") == "[1]"
    assert run("other") == "[1]"


def test_formats_that_run_no_code_are_loaded_from_anybodys_registry(place: Path, tumour: Fitted) -> None:
    import xgboost

    linear = LogisticRegression(max_iter=20).fit(np.eye(4), [0, 1, 0, 1])
    boosted = xgboost.XGBClassifier(n_estimators=2).fit(np.eye(4), [0, 1, 0, 1])
    ModelRegistry(place).register(linear, "linear", example=np.eye(4), serializer="skops")
    ModelRegistry(place).register(boosted, "boosted", example=np.eye(4))
    elsewhere = place.parent / "downloaded"
    shutil.copytree(place, elsewhere)
    foreign = ModelRegistry(elsewhere)
    assert not foreign.trusted
    for name, model in (("linear", linear), ("boosted", boosted)):
        assert (foreign.load(name).predict_proba(np.eye(4)) == model.predict_proba(np.eye(4))).all()
        copies = ModelRegistry(place.parent / "copies")
        assert (copies.load(foreign.copy(name, copies)).predict(np.eye(4)) == model.predict(np.eye(4))).all()


def test_a_record_that_claims_a_harmless_format_gets_nothing_unpickled(place: Path, marker: Path) -> None:
    from mlnb.registry.storage.sealed import seal, unseal

    path = path_of(place, "record")
    for claimed in ("skops", "xgboost", "lightgbm", "onnx", "torch-export", "nonsense", "../cloudpickle", ""):
        record = unseal(path.read_bytes(), where="")
        path.write_bytes(seal(record | {"format": claimed}))  # a writer who means harm can seal
        elsewhere = place.parent / f"as {claimed.replace('/', ' ')}"
        shutil.copytree(place, elsewhere)
        with pytest.raises((IntegrityError, RegistryFormatError, UntrustedError)):
            ModelRegistry(elsewhere).load("iris")
    assert not marker.exists()


def test_a_copy_is_of_the_same_bytes_and_answers(place: Path, tumour: Fitted) -> None:
    original = ModelRegistry(place).register(tumour.model, "tumour", example=tumour.rows, metrics={"accuracy": 0.9})
    copied = ModelRegistry(place).copy("tumour", place.parent / "copies")
    assert (copied.contents, copied.metrics, copied.number) == (original.contents, original.metrics, 1)
    assert copied.lineage["copied_from"] == f"{place} tumour:1"
    model = ModelRegistry(place.parent / "copies").load("tumour")
    assert (model.predict_proba(tumour.rows) == tumour.model.predict_proba(tumour.rows)).all()
    assert ModelRegistry(place).copy("tumour", place.parent / "copies").number == 2


# Symbolic links ------------------------------------------------------------------------------------------------------


def linked_outside(path: Path, outside: Path) -> None:
    """Move something out of the registry, and leave a link in its place."""
    outside.mkdir()
    shutil.move(path, outside / path.name)
    path.symlink_to(outside / path.name)


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


LINKED: dict[str, Callable[[Path], Path]] = {
    "blobs": lambda place: place / "blobs",
    "sha256": lambda place: place / "blobs" / "sha256",
    "blob folder": lambda place: path_of(place, "model.pickle").parent,
    "blob": lambda place: path_of(place, "model.pickle"),
    "models": lambda place: place / "models",
    "model": lambda place: place / "models" / "iris",
    "versions": lambda place: place / "models" / "iris" / "versions",
    "record": lambda place: path_of(place, "record"),
}


@pytest.mark.parametrize("linked", LINKED)
def test_what_is_a_link_is_not_read(place: Path, tmp_path: Path, marker: Path, linked: str) -> None:
    linked_outside(LINKED[linked](place), tmp_path / "outside")
    for read in (
        lambda: ModelRegistry(place).load("iris:1"),
        lambda: ModelRegistry(place).load("iris@champion", mapped=True),
        lambda: ModelRegistry(place).copy("iris:1", tmp_path / "copies"),
    ):
        with pytest.raises(RegistryUnavailableError, match="symbolic link"):
            read()
    assert not marker.exists()


@pytest.mark.parametrize("linked", [*LINKED, "history", "event", "tmp", "registry"])
def test_nothing_is_written_or_removed_behind_a_link(place: Path, tmp_path: Path, marker: Path, linked: str) -> None:
    more: dict[str, Callable[[Path], Path]] = {
        "history": lambda place: place / "models" / "iris" / "history",
        "event": lambda place: path_of(place, "event"),
        "tmp": lambda place: place / "tmp",
        "registry": lambda place: path_of(place, "registry"),
    }
    (place / "tmp").mkdir(exist_ok=True)
    outside = tmp_path / "outside"
    linked_outside((LINKED | more)[linked](place), outside)
    before = listing(outside)
    refused = []
    for act in (
        lambda: ModelRegistry(place).register(Trap(str(marker), np.arange(10_000.0)), "iris", example=[[0.5]]),
        lambda: ModelRegistry(place).set_alias("iris", "champion", 1),
        lambda: ModelRegistry(place).collect(),
        lambda: ModelRegistry(place).record(ModelRegistry(place).version("iris"), "deployed"),
    ):
        try:
            act()
        except RegistryUnavailableError as error:
            refused.append(str(error))
        assert listing(outside) == before
    assert refused
    assert all("symbolic link" in said for said in refused)


@pytest.mark.parametrize("linked", ["blobs", "sha256", "blob folder", "blob"])
def test_a_content_behind_a_link_does_not_count_as_stored(
    place: Path, tmp_path: Path, marker: Path, linked: str
) -> None:
    """Else registering the same model again would succeed, and loading that version would not."""
    linked_outside(LINKED[linked](place), tmp_path / "outside")
    with pytest.raises(RegistryUnavailableError, match="symbolic link"):
        ModelRegistry(place).register(Trap(str(marker), np.arange(10_000.0)), "iris", example=[[0.5]])


# Hostile names -------------------------------------------------------------------------------------------------------


def test_no_name_leads_out_of_the_registry(tmp_path: Path) -> None:
    """In a process of its own, because what watches it cannot be taken away again."""
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "arena")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert found["tried"] > 1000
    assert set(found["met"]) >= {"InvalidNameError", "ModelNotFoundError", "accepted"}


METHODS: dict[str, Callable[[ModelRegistry, str], object]] = {
    "register": lambda registry, text: registry.register(CONSTANT, text),
    "load": lambda registry, text: registry.load(text),
    "golden": lambda registry, text: registry.golden(text),
    "proof": lambda registry, text: registry.proof(text),
    "versions": lambda registry, text: registry.versions(text),
    "version": lambda registry, text: registry.version(text),
    "version as alias": lambda registry, text: registry.version(f"iris@{text}"),
    "version as number": lambda registry, text: registry.version(f"iris:{text}"),
    "set_alias of": lambda registry, text: registry.set_alias(text, "champion", 1),
    "set_alias": lambda registry, text: registry.set_alias("iris", text, 1),
    "aliases": lambda registry, text: registry.aliases(text),
    "live": lambda registry, text: registry.live(text),
    "history": lambda registry, text: registry.history(text),
    "rollback": lambda registry, text: registry.rollback(text),
    "rollback to": lambda registry, text: registry.rollback(text, to=1),
    "rollback_target": lambda registry, text: registry.rollback_target(text),
    "delete": lambda registry, text: registry.delete(text),
    "copy": lambda registry, text: registry.copy(text, "memory://copies"),
    "diff": lambda registry, text: registry.diff(text, text),
    "card": lambda registry, text: registry.card(text),
}
SPECIAL = [
    "..", ".", "", "/", "../secret", "../../secret", "iris/../../../secret", "/etc/passwd", "\\", "..\\secret",
    "iris\x00", "\x00", "iris\n", "iris:1\n", "iris ", "~", "~root", "$HOME", "%2e%2e%2fsecret",
    "\uff49\uff52is", "iris\u202e", "\ud800", "iris:-1", "iris:1.0", "iris:\u0663", "iris:1:2", "iris@a:1",
    "iris@..", "iris@", "iris:", ":1", "@x", "iris:00000001", "a" * 63, "a" * 64, "a" * 5000,
    "iris" + "/" * 5000, "CON", "nul.txt", "-rf", ".hidden", "a..", "versions", "iris:99999999",
]  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(SPECIAL),
    st.text(max_size=80),
    st.text(alphabet="./\\:@~ \0ab1-_", max_size=40),
    st.text(alphabet="abcXYZ019._-", min_size=1, max_size=70),
)


def try_names(arena: Path) -> None:
    """Call each method with each text; print how many there were and what they met, as JSON."""
    root = arena / "one" / "two" / "models"
    root.parent.mkdir(parents=True)
    for folder in (arena, arena / "one", root.parent):
        for name in ("secret", "versions", "history", "deleted"):
            (folder / name).mkdir()
            (folder / name / "00000001.json").write_text("{}")
    registry = ModelRegistry(root)
    for _ in range(2):
        registry.register(CONSTANT, "iris")
    seen: list[str] = []
    sys.addaudithook(lambda event, given: watch(event, given, arena, root, seen))

    def outside() -> list[str]:
        return sorted(str(path) for path in arena.rglob("*") if not path.is_relative_to(root))

    untouched = outside()
    met: Counter[str] = Counter()

    @settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(text=TEXTS)
    def each(text: str) -> None:
        for method in METHODS:
            seen.clear()
            met[outcome_of(method, registry, text)] += 1
            assert seen == [], f"{method}({text[:100]!r}) looked outside: {seen}"

    for text in SPECIAL:
        each = example(text=text)(each)
    each()
    assert outside() == untouched
    sys.stdout.write(json.dumps({"tried": met.total(), "met": met}))


def outcome_of(method: str, registry: ModelRegistry, text: str) -> str:
    """Return the error that a method raised and may raise, "accepted" if it raised none."""
    try:
        METHODS[method](registry, text)
    except (InvalidNameError, ModelNotFoundError, NoPreviousVersionError, VersionInUseError) as error:
        return type(error).__name__
    except Exception as error:
        raise AssertionError(f"{method}({text[:100]!r}): {type(error).__name__}: {str(error)[:300]}") from error
    return "accepted"


def watch(event: str, given: tuple[Any, ...], arena: Path, root: Path, seen: list[str]) -> None:
    """Note each operation on a file in the arena that is not in the registry."""
    if event not in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.link", "os.rename", "os.remove"):
        return
    for path in given[:2]:
        if isinstance(path, (str, os.PathLike)):
            real = Path(os.path.realpath(path))
            if real.is_relative_to(arena) and not real.is_relative_to(root):
                seen.append(f"{event} {path}")


if __name__ == "__main__":
    from hypothesis import example

    try_names(Path(sys.argv[1]).absolute())
