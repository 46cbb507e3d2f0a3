"""The folder of a package: what is written, kept, removed and left alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from mlnb.errors import InvalidInputError, PackagingError, RegistryUnavailableError
from mlnb.packaging.folder import TOKEN, check_current, read_token, staged, write_folder
from mlnb.serving.access import Token

RECORD = ".mlnb-package.json"
THREE = ("iris:3", "ab" * 32)


def made(folder: Path, **texts: str) -> Path:
    for path, text in texts.items():
        place = folder / path.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


def packaged(to: Path, version: tuple[str, str] = THREE, **texts: str) -> Path:
    with staged(to) as name:
        write_folder(made(Path(name), **texts), to, reference=version[0], digest=version[1])
    return to


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_all_is_written_with_a_token_that_others_cannot_reach(tmp_path: Path) -> None:
    to = tmp_path / "build" / "iris"
    with staged(to) as name:
        source = made(Path(name), Dockerfile="FROM x", model__a="1")
        assert write_folder(source, to, reference="iris:3", digest="") == ["Dockerfile", "model/a"]
    assert (to / "model" / "a").read_text() == "1"
    assert len(read_token(to)) >= 32
    assert stat.S_IMODE((to / TOKEN).parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((to / TOKEN).stat().st_mode) == 0o644  # read by the user of the container
    assert {path.name for path in tmp_path.iterdir()} == {"build"}  # nothing of the writing is left


def test_again_replaces_what_was_written_and_keeps_the_token_and_what_others_put_there(tmp_path: Path) -> None:
    to = packaged(tmp_path / "build", Dockerfile="FROM x", model__a__b="1")
    token = read_token(to)
    made(to, notes="mine", secrets__notes="mine", model__notes="mine")
    packaged(to, Dockerfile="FROM y", compose="2")
    assert read_token(to) == token
    assert {path: text for path, text in contents(to).items() if not path.startswith(("secrets/token", RECORD))} == {
        "Dockerfile": "FROM y", "compose": "2", "notes": "mine", "secrets/notes": "mine", "secrets/.gitignore": "*\n",
        "model/notes": "mine",
    }  # fmt: skip
    assert not (to / "model" / "a").exists()


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ("Dockerfile", r"Dockerfile in .* is not a package's"),
        ("secrets__db", r"secrets in .* is not a package's"),
        ("secrets__token", r"secrets/token in .* is not a package's"),
        ("model", "model is no folder"),
        ("Dockerfile__mine", "Dockerfile is no file"),
    ],
)
def test_what_somebody_else_put_in_the_way_stays_and_nothing_is_changed(tmp_path: Path, theirs: str, says: str) -> None:
    to = made(tmp_path / "home", **{theirs: "a text that is long enough"})
    for folder in (path for path in to.iterdir() if path.is_dir()):
        folder.chmod(0o755)
    before = contents(to)
    with pytest.raises(PackagingError, match=says):
        packaged(to, Dockerfile="FROM x", app="1", model__a="1")
    assert contents(to) == before
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o755 for path in to.iterdir() if path.is_dir())


@pytest.mark.parametrize(
    "link", ["Dockerfile", "model", "model__deep", "secrets", "secrets__token", "secrets__.gitignore", RECORD]
)
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_below_the_folder_is_not_followed(tmp_path: Path, link: str, dangling: bool) -> None:
    outside = tmp_path / "outside"
    if not dangling:
        made(outside, a="theirs")
    place = tmp_path / "build" / link.replace("__", "/")
    place.parent.mkdir(parents=True)
    place.symlink_to(outside if link in ("model", "model__deep", "secrets") else outside / "a")
    with pytest.raises(PackagingError, match="is a link, and is not followed"):
        packaged(tmp_path / "build", Dockerfile="FROM x", model__deep__a="1")
    assert place.is_symlink()
    assert contents(tmp_path / "outside") == ({} if dangling else {"a": "theirs"})


def test_the_folder_itself_may_be_a_link_and_a_name_that_waits_is_nobodys_to_foresee(tmp_path: Path) -> None:
    made(tmp_path, real__notes="mine", bashrc="mine")
    (tmp_path / "build").symlink_to(tmp_path / "real")
    (tmp_path / "real" / ".Dockerfile.new").symlink_to(tmp_path / "bashrc")
    packaged(tmp_path / "build", Dockerfile="FROM x")
    assert (tmp_path / "real" / "Dockerfile").read_text() == "FROM x"
    assert (tmp_path / "bashrc").read_text() == "mine"


def test_a_record_of_somebody_else_removes_nothing(tmp_path: Path) -> None:
    made(tmp_path, victim__thesis="years", elsewhere__a="theirs")
    to = made(tmp_path / "build", kept="not what the record says")
    (to / "linked").symlink_to(tmp_path / "elsewhere")
    digests = [hashlib.sha256(text).hexdigest() for text in (b"years", b"theirs")]
    claimed = ("../victim/thesis", str(tmp_path / "victim" / "thesis"), "linked/a", "linked", "kept", "..", "", "a\0b")
    record = {"reference": "iris:3", "digest": "", "files": dict.fromkeys(claimed, digests)}
    (to / RECORD).write_text(json.dumps(record))
    packaged(to, Dockerfile="FROM x")
    assert (tmp_path / "victim" / "thesis").read_text() == "years"
    assert (tmp_path / "elsewhere" / "a").read_text() == "theirs"
    assert (to / "kept").read_text() == "not what the record says"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": null}', '{"files": {"a": 1}}', "\udcff"])
def test_a_record_that_is_none_makes_no_file_a_packages(tmp_path: Path, text: str) -> None:
    to = made(tmp_path / "build", Dockerfile="mine")
    (to / RECORD).write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(PackagingError, match="is not a package's"):
        packaged(to, Dockerfile="FROM x")


def test_a_file_that_its_user_changed_is_not_written_over_nor_removed(tmp_path: Path) -> None:
    to = packaged(tmp_path / "build", Dockerfile="FROM x", compose="1")
    made(to, Dockerfile="FROM mine", compose="mine")
    with pytest.raises(PackagingError, match=r"Dockerfile in .* was changed since it was packaged; move it away"):
        packaged(to, Dockerfile="FROM y")
    assert (to / "Dockerfile").read_text() == "FROM mine"
    packaged(to, Dockerfile="FROM mine")  # the same as it is
    assert (to / "compose").read_text() == "mine"


def test_a_run_that_failed_halfway_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = packaged(tmp_path / "build", Dockerfile="FROM x", old="1")
    replace, moved = Path.replace, []

    def full(source: Path, target: Path) -> Path:
        moved.append(target.name)
        if len(moved) > 2:
            raise OSError(28, "No space left on device")
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(PackagingError, match=r"No space left on device\. Name another folder"):
            packaged(to, Dockerfile="FROM y", app="1", wheels__a="1")
    assert moved[0] == RECORD
    with pytest.raises(PackagingError, match=r"holds no whole package by now; package iris:3 again"):
        check_current(to, reference=THREE[0], digest=THREE[1])
    packaged(to, Dockerfile="FROM z", app="2")
    assert contents(to).keys() == {"Dockerfile", "app", "secrets/.gitignore", TOKEN, RECORD}


def test_a_subfolder_that_was_removed_by_hand(tmp_path: Path) -> None:
    to = packaged(tmp_path / "build", Dockerfile="FROM x", kubernetes__one="1")
    shutil.rmtree(to / "kubernetes")
    packaged(to, Dockerfile="FROM x")
    assert packaged(to, Dockerfile="FROM y", kubernetes__one="1").joinpath("kubernetes", "one").exists()


def test_git_does_not_take_the_token(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    packaged(tmp_path / "build", Dockerfile="FROM x")
    subprocess.run(["git", "-C", tmp_path, "add", "-A"], check=True)
    listed = subprocess.run(["git", "-C", tmp_path, "ls-files"], check=True, capture_output=True, text=True).stdout
    assert listed.split() == ["build/.mlnb-package.json", "build/Dockerfile"]
    digest = hashlib.sha256((tmp_path / "build" / TOKEN).read_bytes()).hexdigest()  # a short token would be guessed
    assert digest not in (tmp_path / "build" / RECORD).read_text()


@pytest.mark.parametrize("text", ["correct-horse-battery", "sixteen-letters-\n", "sixteen-letters-\r\n", "!" * 4096])
def test_a_token_that_its_user_wrote_is_kept_as_it_is(tmp_path: Path, text: str) -> None:
    to = packaged(tmp_path / "build", Dockerfile="FROM x")
    (to / TOKEN).write_bytes(text.encode())
    packaged(to, Dockerfile="FROM y")
    assert (to / TOKEN).read_bytes() == text.encode()
    Token(read_token(to))


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"fifteen-letters", b"!" * 4097, b"sixteen-letters-\n\n", b"sixteen letters-", b"\xff" * 16]
)
def test_a_token_that_the_server_would_refuse_is_refused(tmp_path: Path, text: bytes) -> None:
    to = packaged(tmp_path / "build", Dockerfile="FROM x")
    (to / TOKEN).write_bytes(text)
    with pytest.raises(PackagingError, match="is no token: it must be one line of 16"):
        packaged(to, Dockerfile="FROM y")
    assert (to / "Dockerfile").read_text() == "FROM x"
    with pytest.raises(InvalidInputError):
        Token(text.decode("latin-1").removesuffix("\n"))


def test_a_token_that_was_removed_is_said_and_made_again(tmp_path: Path) -> None:
    to = packaged(tmp_path / "build", Dockerfile="FROM x")
    (to / TOKEN).unlink()
    with pytest.raises(PackagingError, match="Package the version again"):
        read_token(to)
    assert read_token(packaged(to, Dockerfile="FROM x"))


def test_another_version_in_the_folder_is_said(tmp_path: Path) -> None:
    to = packaged(tmp_path / "build", Dockerfile="FROM x")
    check_current(to, reference="iris:3", digest="ab" * 32)
    with pytest.raises(PackagingError, match=r"holds another iris:3 by now; package iris:3 again"):
        check_current(to, reference="iris:3", digest="cd" * 32)
    packaged(to, ("iris:4", "cd" * 32), Dockerfile="FROM y")
    with pytest.raises(PackagingError, match=r"holds iris:4 by now; package iris:3 again"):
        check_current(to, reference="iris:3", digest="ab" * 32)
    shutil.rmtree(to)
    with pytest.raises(PackagingError, match=r"holds no whole package by now"):
        check_current(to, reference="iris:4", digest="cd" * 32)


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_place_of_the_folder(tmp_path: Path, below: str) -> None:
    (tmp_path / "build").write_text("mine")
    with pytest.raises(PackagingError, match=r"is a file; name a folder|cannot be written: (File exists|Not a dir)"):
        packaged(tmp_path / "build" / below, Dockerfile="FROM x")
    assert (tmp_path / "build").read_text() == "mine"


def test_a_full_disk_is_said_of_the_folder_and_other_faults_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match=r"build cannot be written: No space left"), staged(tmp_path / "build"):
        Path("/dev/full").write_text("x")
    with pytest.raises(RegistryUnavailableError), staged(tmp_path / "build"):
        raise RegistryUnavailableError("gone")
    assert not list(tmp_path.iterdir())


def test_it_is_staged_on_the_file_system_of_the_folder(tmp_path: Path) -> None:
    with staged(tmp_path / "build" / "iris") as name:
        assert Path(name).parent == tmp_path
    with staged(tmp_path) as name:  # what is beside it may be another's, or another file system
        assert Path(name).parent == tmp_path
