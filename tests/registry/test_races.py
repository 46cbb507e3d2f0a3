"""Writers, collectors and readers in processes of their own, all at the same registry.

Run as a program, this file forks them, once it has imported what they need, and lets them start at the same moment.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor

from mlnb.errors import AliasMovedError
from mlnb.registry.registry import ModelRegistry
from mlnb.registry.storage.store import FolderStore
from mlnb.registry.version import ModelVersion


def test_eight_processes_that_register_fifty_versions_each_make_four_hundred(home: Path) -> None:
    numbers = together([("register", str(home), writer * 50, 50) for writer in range(8)])
    assert sorted(number for given in numbers for number in given) == list(range(1, 401))
    registry = ModelRegistry(home)
    assert [version.number for version in registry.versions("iris")] == list(range(1, 401))
    assert {int(version.description) for version in registry.versions("iris")} == set(range(400))
    for version in registry.versions("iris")[::20]:
        assert registry.load(version).predict([[0.0]]).tolist() == [int(version.description)]
    events = registry.history("iris")
    assert [event.number for event in events] == list(range(1, 401))
    assert {event.action for event in events} == {"registered"}
    assert Counter(event.version for event in events) == Counter(range(1, 401))
    assert all(earlier.at <= later.at for earlier, later in itertools.pairwise(events))
    created = [version.created for version in registry.versions("iris")]
    assert created == sorted(created)


def test_what_is_registered_while_others_collect_stays_whole(home: Path) -> None:
    ModelRegistry(home).register(constant(-1), "iris", description="-1")
    answers = together(
        [
            ("register and delete", str(home), 0, 60),
            ("register and delete", str(home), 0, 60),  # the same models: what one deletes the other needs
            ("collect", str(home), 0, 100),
            ("collect", str(home), 0, 100),
        ]
    )
    assert [given for given in answers if given] == []
    registry = ModelRegistry(home)
    assert registry.versions("iris")[0].number == 1
    assert len(registry.versions("iris")) > 50
    for version in registry.versions("iris"):
        assert registry.load(version).predict([[0.0]]).tolist() == [int(version.description)]
        assert version.signature is not None


def test_what_is_loaded_while_others_collect_is_whole(home: Path) -> None:
    """A collector takes away what it finds unneeded, before it looks again; a reader may come in between."""
    registry = ModelRegistry(home)
    registry.delete(str(registry.register(constant(1), "iris", description="1")))
    seen: list[ModelVersion] = []

    class Between(ModelRegistry):
        def _needed(self) -> set[str]:
            if not seen:
                needed = super()._needed()
                seen.append(registry.register(constant(1), "iris", description="1"))
                return needed
            assert ModelRegistry(home).load("iris").predict([[0.0]]).tolist() == [1]
            seen.append(registry.versions("iris")[-1])
            return super()._needed()

    Between(home).collect()
    assert len(seen) == 2
    assert ModelRegistry(home).load("iris").predict([[0.0]]).tolist() == [1]


def test_a_key_that_is_taken_away_while_it_is_made_is_no_obstacle(tmp_path: Path) -> None:
    """A writer finds that it is taken, looks what took it, and a collector has withdrawn it in between."""
    store = FolderStore(tmp_path / "store")
    done = threading.Event()

    def take_away() -> None:
        while not done.is_set():
            with suppress(FileNotFoundError):
                store.move("a/1", "b/1")

    taking = threading.Thread(target=take_away)
    taking.start()
    try:
        with ThreadPoolExecutor(6) as pool:
            made = list(pool.map(lambda _: store.create("a/1", b"x"), range(600)))
    finally:
        done.set()
        taking.join()
    assert any(made)


def test_two_collectors_and_a_writer_lose_nothing(home: Path) -> None:
    """The steps in the one order in which the second collector could destroy what the first means to give back."""
    registry = ModelRegistry(home)
    registry.delete(str(registry.register(constant(1), "iris", description="1")))
    first_looked, second_looked, written = threading.Event(), threading.Event(), threading.Event()
    first_withdrew, second_destroyed = threading.Event(), threading.Event()

    class First(ModelRegistry):
        looks = 0

        def _needed(self) -> set[str]:
            self.looks += 1
            if self.looks > 1:
                first_withdrew.set()
                assert second_destroyed.wait(20)
                return super()._needed()
            needed = super()._needed()
            first_looked.set()
            assert written.wait(20)
            return needed

    class Second(ModelRegistry):
        looks = 0

        def _needed(self) -> set[str]:
            needed = super()._needed()
            self.looks += 1
            if self.looks > 1:
                second_looked.set()
                assert first_withdrew.wait(20)
            return needed

    failures: list[BaseException] = []

    def guarded(act: Callable[[], object], done: threading.Event) -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)
        done.set()

    first = threading.Thread(target=guarded, args=(First(home).collect, threading.Event()))
    second = threading.Thread(target=guarded, args=(Second(home).collect, second_destroyed))
    first.start()
    assert first_looked.wait(20)
    second.start()
    assert second_looked.wait(20)
    version = ModelRegistry(home).register(constant(1), "iris", description="1")
    written.set()
    first.join(30)
    second.join(30)
    assert failures == []
    assert ModelRegistry(home).load(version).predict([[0.0]]).tolist() == [1]


def test_of_two_who_move_an_alias_at_the_same_time_one_wins(home: Path) -> None:
    registry = ModelRegistry(home)
    for number in (1, 2, 3):
        registry.register(constant(number), "iris", description=str(number))
    rounds = 25
    outcomes = together([("move", str(home), version, rounds) for version in (2, 3)])
    winners = [
        [number for number, won in zip((2, 3), pair, strict=True) if won] for pair in zip(*outcomes, strict=True)
    ]
    assert [len(won) for won in winners] == [1] * rounds
    moves = [event for event in registry.history("iris") if event.action == "aliased"]
    assert [event.version for event in moves] == [won[0] for won in winners]
    assert [event.alias for event in moves] == [f"champion-{number}" for number in range(rounds)]
    assert [event.number for event in registry.history("iris")] == list(range(1, 4 + rounds))


def test_an_alias_moved_by_somebody_else_is_said_with_who_and_when(home: Path) -> None:
    mine, theirs = ModelRegistry(home), ModelRegistry(home)
    for number in (1, 2):
        mine.register(constant(number), "iris")
    mine.set_alias("iris", "champion", 1, expected=None)
    theirs.set_alias("iris", "champion", 2, expected=1)
    with pytest.raises(
        AliasMovedError, match=r"iris@champion means version 2, not version 1: it was moved by \S+@\S+ at"
    ):
        mine.set_alias("iris", "champion", 1, expected=1)
    assert mine.aliases("iris") == {"champion": 2}


def test_two_processes_that_register_twenty_versions_each_in_a_bucket_make_forty(s3_url: str) -> None:
    numbers = together([("register", s3_url, writer * 20, 20) for writer in range(2)])
    assert sorted(number for given in numbers for number in given) == list(range(1, 41))
    registry = ModelRegistry(s3_url)
    assert {int(version.description) for version in registry.versions("iris")} == set(range(40))
    assert [event.number for event in registry.history("iris")] == list(range(1, 41))
    assert Counter(event.version for event in registry.history("iris")) == Counter(range(1, 41))
    newest = registry.version("iris")
    assert registry.load(newest).predict([[0.0]]).tolist() == [int(newest.description)]


# The processes --------------------------------------------------------------------------------------------------------


def constant(number: int) -> Any:
    """Return a model that answers with a number."""
    model = DummyRegressor(strategy="constant", constant=number).fit([[0.0], [1.0]], [0.0, 1.0])
    model.constant_ = np.asarray(model.constant_)
    return model


def together(jobs: Sequence[tuple[str, str, int, int]]) -> list[Any]:
    """Run each job in a process of its own, all from the same moment on; return what each answered."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, json.dumps(jobs)],
            stdout=subprocess.PIPE,
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
        )
    answers: list[Any] = json.loads(done.stdout)
    return answers


def main(jobs: Sequence[tuple[str, str, int, int]]) -> None:
    """Fork a child for each job, start them together, and print what they answered as JSON."""
    ModelRegistry("warm-up").register(constant(0), "iris")  # imports what the children need, once
    waiting, starting = os.pipe()
    children = []
    for job in jobs:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(starting)
            _work(job, waiting, writing)
        os.close(writing)
        children.append((child, reading))
    os.close(starting)
    answers = []
    for child, reading in children:
        with os.fdopen(reading) as pipe:
            answers.append(json.load(pipe))
        os.waitpid(child, 0)
    sys.stdout.write(json.dumps(answers))


def _work(job: tuple[str, str, int, int], waiting: int, writing: int) -> None:
    kind, place, first, count = job
    try:
        act = JOBS[kind](place, first, count)
        os.read(waiting, 1)  # until nobody can write any more: that is the start
        with os.fdopen(writing, "w") as pipe:
            json.dump(act(), pipe)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)  # the parent misses the answer of a job that failed


Job = Callable[[str, int, int], Callable[[], object]]
"""Prepares, and returns what is to be done after the start."""


def register(place: str, first: int, count: int) -> Callable[[], list[int]]:
    """Register some versions; return their numbers."""
    models = [constant(number) for number in range(first, first + count)]

    def act() -> list[int]:
        registry = ModelRegistry(place)
        return [registry.register(model, "iris", description=str(at)).number for at, model in enumerate(models, first)]

    return act


def register_and_delete(place: str, first: int, count: int) -> Callable[[], list[str]]:
    """Register some versions, and delete every other; return what went wrong."""
    models = [constant(number) for number in range(first, first + count)]

    def one(number: int, model: Any) -> None:
        version = ModelRegistry(place).register(model, "iris", description=str(number))
        assert ModelRegistry(place).load(version).predict([[0.0]]).tolist() == [number]
        if number % 2:
            ModelRegistry(place).delete(str(version))

    return lambda: [wrong for number, model in enumerate(models, first) if (wrong := complaint(one, number, model))]


def collect(place: str, _: int, count: int) -> Callable[[], list[str]]:
    """Collect again and again; return what went wrong."""
    return lambda: [wrong for _ in range(count) if (wrong := complaint(ModelRegistry(place).collect))]


def complaint(act: Callable[..., object], *given: object) -> str:
    """Return what ``act`` raised, "" if nothing."""
    try:
        act(*given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def move(place: str, version: int, rounds: int) -> Callable[[], list[bool]]:
    """Take one alias after the other, each as soon as the one before is taken; say which were won."""
    registry = ModelRegistry(place)

    def won(number: int) -> bool:
        try:
            registry.set_alias("iris", f"champion-{number}", version, expected=None)
        except AliasMovedError:
            return False
        return True

    return lambda: [won(number) for number in range(rounds)]


JOBS: dict[str, Job] = {
    "collect": collect,
    "move": move,
    "register": register,
    "register and delete": register_and_delete,
}

if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
