"""A writer is killed in every state of the disk it goes through; run as a program, this file is that experiment.

What a killed writer leaves is the disk alone. So it is enough to kill it once in each state of the disk: a first run
looks at the tree of files at every line of the code that writes, and the numbers of the lines at which the tree had
changed are where the following runs are killed. The check of each remainder runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor

from mlnb.registry.registry import ModelRegistry

_TRACED = {"blobs.py", "ledger.py", "pathlib.py", "registry.py", "sealed.py", "store.py", "trust.py"}
_WRITES = ("open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree")


@pytest.mark.parametrize(
    ("deed", "least"),
    [
        ("register the first", 20),
        ("register the next", 10),
        ("register a large one", 12),
        ("set an alias", 3),
        ("delete", 6),
        ("copy", 20),
        ("collect", 5),
        ("collect while another writes", 5),
    ],
)
def test_a_writer_killed_in_any_state_of_the_disk_leaves_it_whole(deed: str, least: int, tmp_path: Path) -> None:
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, __file__, deed, str(tmp_path)],
        env=unmeasured | {"XDG_CONFIG_HOME": str(tmp_path / "world" / "config"), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["problems"], "\n".join(found["problems"])
    assert found["states"] >= least  # else nothing was tried


# The program ---------------------------------------------------------------------------------------------------------


def constant(number: int, *, size: int = 0) -> Any:
    """Return a model that answers with a number, and holds ``size`` bytes of its own."""
    model = DummyRegressor(strategy="constant", constant=number).fit([[0.0], [1.0]], [0.0, 1.0])
    model.ballast_ = np.full(size, number % 256, dtype=np.uint8)
    return model


def register(registry: ModelRegistry, number: int, *, size: int = 0) -> None:
    registry.register(constant(number, size=size), "iris", example=[[0.5]], description=str(number))


class Interrupted(ModelRegistry):
    """Another writer registers what was just found to be unneeded, after the first look of ``collect``."""

    def _needed(self) -> set[str]:
        needed = super()._needed()
        if self.__dict__.setdefault("first", True):
            self.first = False
            register(ModelRegistry(self.url), 1)
        return needed


class Broken(ModelRegistry):
    """Its ``collect`` ends midway, as one that was killed before the writer under test came."""

    def _needed(self) -> set[str]:
        if self.__dict__.setdefault("first", True):
            self.first = False
            return super()._needed()
        raise InterruptedError


def three_versions(world: Path) -> None:
    registry = ModelRegistry(world / "models")
    for number in (1, 2, 3):
        register(registry, number)
    registry.set_alias("iris", "champion", 2)
    registry.record(registry.version("iris:2"), "deployed")


def one_deleted(world: Path) -> None:
    three_versions(world)
    registry = ModelRegistry(world / "models")
    registry.delete("iris:1")
    with suppress(InterruptedError):
        Broken(world / "models").collect()
    registry.delete("iris:3")


def only_unneeded(world: Path) -> None:
    three_versions(world)
    ModelRegistry(world / "models").delete("iris:1")


def nothing(world: Path) -> None:
    world.mkdir(exist_ok=True)


DEEDS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "register the first": (nothing, lambda world: register(ModelRegistry(world / "models"), 1)),
    "register the next": (three_versions, lambda world: register(ModelRegistry(world / "models"), 4)),
    "register a large one": (three_versions, lambda world: register(ModelRegistry(world / "models"), 4, size=2**21)),
    "set an alias": (three_versions, lambda world: ModelRegistry(world / "models").set_alias("iris", "champion", 3)),
    "delete": (three_versions, lambda world: ModelRegistry(world / "models").delete("iris:1")),
    "copy": (three_versions, lambda world: ModelRegistry(world / "models").copy("iris:2", world / "copies")),
    "collect": (one_deleted, lambda world: ModelRegistry(world / "models").collect()),
    "collect while another writes": (only_unneeded, lambda world: Interrupted(world / "models").collect()),
}


def in_child(act: Callable[[], object]) -> str:
    """Run ``act`` in a process of its own; return what it raised, "killed" if it was killed, else ""."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        complaint = ""
        try:
            act()
        except BaseException:
            complaint = traceback.format_exc(limit=-3)
        os.write(writing, complaint.encode()[-4000:])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        complaint = pipe.read()
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) else complaint


def at_each_line(look: Callable[[], None]) -> None:
    """Call ``look`` before each line of the code that writes and before each file operation, in this thread."""

    def local(_frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            look()
        return local

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        return local if frame.f_code.co_filename.rpartition("/")[2] in _TRACED else None

    thread = threading.get_ident()  # others hash and flush, and their lines come in another order each time
    sys.addaudithook(lambda event, _: look() if event in _WRITES and threading.get_ident() == thread else None)
    sys.settrace(trace)


def tree(folder: Path) -> list[tuple[str, int, int]]:
    """Return each file and folder with its size and how many names it has."""
    found = []
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    found.append((entry.path, 0, 0))
                else:
                    found.append((entry.path, status.st_size, status.st_nlink))
    return sorted(found)


def states(world: Path, act: Callable[[], object], notes: Path) -> list[int]:
    """Return the numbers of the lines at which the files were not as at the line before."""
    changed = [1]

    def recorded() -> None:
        seen: list[Any] = [0, tree(world), False]

        def look() -> None:
            if seen[2]:  # it looks at folders itself
                return
            seen[2] = True
            seen[0] += 1
            now = tree(world)
            if now != seen[1]:
                changed.append(seen[0])
            seen[1], seen[2] = now, False

        at_each_line(look)
        act()
        seen[2] = True
        notes.write_text(json.dumps(changed))

    if complaint := in_child(recorded):
        raise RuntimeError(complaint)
    found: list[int] = json.loads(notes.read_text())
    return found


def killed_at(line: int, act: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        count = [0]

        def look() -> None:
            count[0] += 1
            if count[0] == line:
                os.kill(os.getpid(), signal.SIGKILL)

        at_each_line(look)
        act()

    return run


def check_both(world: Path) -> None:
    """Check the registry that is copied from, and the one copied to."""
    check(world / "models", allowed=([1, 2, 3],))
    check(world / "copies", allowed=([], [1]))


def check(place: Path, *, allowed: Sequence[list[int]], champion: Sequence[int] = (2,)) -> None:
    """Fail unless the registry at ``place`` is whole, and can be gone on with."""
    registry = ModelRegistry(place)
    before = check_versions(registry)
    assert before in allowed, f"versions {before}, not one of {allowed}"
    if before and place.name == "models" and len(before) + len(registry._ledger.deleted("iris")) > 1:
        assert registry.aliases("iris")["champion"] in champion
        assert registry.live("iris") == 2
    highest = max([0, *before, *registry._ledger.deleted("iris")])
    register(ModelRegistry(place), 9)
    registry = ModelRegistry(place)
    assert check_versions(registry) == [*before, highest + 1]
    registry.set_alias("iris", "newest", highest + 1)
    assert ModelRegistry(place).version("iris@newest").number == highest + 1
    for path in (place / "tmp").iterdir():
        os.utime(path, (0, 0))
    registry.collect()
    assert check_versions(ModelRegistry(place)) == [*before, highest + 1]
    needed = {digest for version in registry.versions("iris") for digest in version.contents}
    kept = [path for folder in ("blobs", "withdrawn", "tmp") for path in (place / folder).rglob("*")]
    assert sorted(path.name for path in kept if path.is_file()) == sorted(needed)


def check_versions(registry: ModelRegistry) -> list[int]:
    """Return the numbers of the versions, each of which was loaded and gave its answers."""
    if "iris" not in registry.names():
        return []
    versions = registry.versions("iris")
    for version in versions:
        assert registry.load(version).predict([[0.0]]).tolist() == [int(version.description)]
        assert registry.load(version, mapped=True).predict([[0.0]]).tolist() == [int(version.description)]
        assert version.signature.names == ("x0",)
        assert registry.golden(version) is not None
    numbers = [version.number for version in versions]
    used = sorted({*numbers, *registry._ledger.deleted("iris")})
    assert used == list(range(1, len(used) + 1)), f"version numbers with gaps: {used}"
    events = [event.number for event in registry.history("iris")]
    assert events == list(range(1, len(events) + 1)), f"history with gaps: {events}"
    return numbers


CHECKS: dict[str, Callable[[Path], None]] = {
    "register the first": lambda world: check(world / "models", allowed=([], [1])),
    "register the next": lambda world: check(world / "models", allowed=([1, 2, 3], [1, 2, 3, 4])),
    "register a large one": lambda world: check(world / "models", allowed=([1, 2, 3], [1, 2, 3, 4])),
    "set an alias": lambda world: check(world / "models", allowed=([1, 2, 3],), champion=(2, 3)),
    "delete": lambda world: check(world / "models", allowed=([1, 2, 3], [2, 3])),
    "copy": check_both,
    "collect": lambda world: check(world / "models", allowed=([2],)),
    "collect while another writes": lambda world: check(world / "models", allowed=([2, 3], [2, 3, 4])),
}


def warm_up(place: Path) -> None:
    """Import whatever is imported on the way, so that the children need not."""
    three_versions(place)
    check(place / "models", allowed=([1, 2, 3],))
    ModelRegistry(place / "models").copy("iris", place / "copies")


def main(deed: str, place: Path) -> None:
    """Print in how many states the writer was killed, and what was wrong afterwards, as JSON."""
    warm_up(place / "warm")
    prepare, act = DEEDS[deed]
    world, template = place / "world", place / "template"
    if complaint := in_child(lambda: prepare(world)):
        raise RuntimeError(complaint)
    world.rename(template)

    def again() -> None:
        shutil.rmtree(world, ignore_errors=True)
        shutil.copytree(template, world)

    again()
    lines = states(world, lambda: act(world), place / "notes")
    problems = []
    for line in lines:
        again()
        ended = in_child(killed_at(line, lambda: act(world)))
        if ended != "killed":
            problems.append(f"at line {line} the writer was not killed: {ended or 'it ended'}")
        elif complaint := in_child(lambda: CHECKS[deed](world)):
            problems.append(f"killed at line {line}: {complaint}")
    sys.stdout.write(json.dumps({"states": len(lines), "problems": problems}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
