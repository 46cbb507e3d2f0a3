"""The folder of a package: what is written, kept, removed and left alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mlnb.errors import PackagingError
from mlnb.packaging.folder import TOKEN, read_token, write_folder


def staged(folder: Path, **texts: str) -> Path:
    for path, text in texts.items():
        place = folder / path.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_all_is_written_with_a_token_that_others_cannot_reach(tmp_path: Path) -> None:
    to = tmp_path / "build" / "iris"
    assert write_folder(staged(tmp_path / "new", Dockerfile="FROM x", model__a="1"), to) == ["Dockerfile", "model/a"]
    assert (to / "model" / "a").read_text() == "1"
    assert len(read_token(to)) >= 32
    assert stat.S_IMODE((to / TOKEN).parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((to / TOKEN).stat().st_mode) == 0o644  # read by the user of the container


def test_again_replaces_what_was_written_and_keeps_the_token_and_what_others_put_there(tmp_path: Path) -> None:
    to = tmp_path / "build"
    write_folder(staged(tmp_path / "one", Dockerfile="FROM x", model__a__b="1"), to)
    token = read_token(to)
    staged(to, notes="mine")
    write_folder(staged(tmp_path / "two", Dockerfile="FROM y", compose="2"), to)
    assert read_token(to) == token
    found = contents(to)
    assert {path: found[path] for path in ("Dockerfile", "compose", "notes")} == {
        "Dockerfile": "FROM y", "compose": "2", "notes": "mine",
    }  # fmt: skip
    assert not (to / "model").exists()


def test_a_file_of_somebody_else_is_in_the_way_and_nothing_is_changed(tmp_path: Path) -> None:
    to = staged(tmp_path / "home", Dockerfile="mine")
    with pytest.raises(PackagingError, match=r"Dockerfile in .* is not a package's"):
        write_folder(staged(tmp_path / "new", Dockerfile="FROM x", app="1"), to)
    assert contents(to) == {"Dockerfile": "mine"}


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "build").write_text("mine")
    with pytest.raises(PackagingError, match="is a file; name a folder"):
        write_folder(staged(tmp_path / "new", Dockerfile="FROM x"), tmp_path / "build")
    assert (tmp_path / "build").read_text() == "mine"


def test_a_token_that_was_removed_is_said(tmp_path: Path) -> None:
    write_folder(staged(tmp_path / "new", Dockerfile="FROM x"), tmp_path / "build")
    (tmp_path / "build" / TOKEN).unlink()
    with pytest.raises(PackagingError, match="Package the version again"):
        read_token(tmp_path / "build")
