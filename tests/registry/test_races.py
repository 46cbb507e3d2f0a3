"""Writers, collectors and readers in processes of their own, all at the same registry; run as a program, one of each.

A program says on its standard output that it is ready, and starts when its standard input says so.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor

from mlnb.errors import AliasMovedError
from mlnb.registry.registry import ModelRegistry


def test_eight_processes_that_register_fifty_versions_each_make_four_hundred(home: Path) -> None:
    numbers = together([["register", str(home), str(writer * 50), "50"] for writer in range(8)], processes=2)
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
            ["register and delete", str(home), "0", "60"],
            ["register and delete", str(home), "0", "60"],  # the same models: what one deletes the other needs
            ["collect", str(home), "0", "60"],
            ["collect", str(home), "0", "60"],
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
    seen = []

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
    outcomes = together([["move", str(home), str(version), str(rounds)] for version in (2, 3)])
    winners = [[number for number, won in zip((2, 3), pair, strict=True) if won] for pair in zip(*outcomes, strict=True)]
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
    with pytest.raises(AliasMovedError, match=r"iris@champion means version 2, not version 1: it was moved by \S+@\S+ at"):
        mine.set_alias("iris", "champion", 1, expected=1)
    assert mine.aliases("iris") == {"champion": 2}


def test_two_processes_that_register_twenty_versions_each_in_a_bucket_make_forty(s3_url: str) -> None:
    numbers = together([["register", s3_url, str(writer * 20), "20"] for writer in range(2)])
    assert sorted(number for given in numbers for number in given) == list(range(1, 41))
    registry = ModelRegistry(s3_url)
    assert {int(version.description) for version in registry.versions("iris")} == set(range(40))
    assert [event.number for event in registry.history("iris")] == list(range(1, 41))
    assert Counter(event.version for event in registry.history("iris")) == Counter(range(1, 41))
    newest = registry.version("iris")
    assert registry.load(newest).predict([[0.0]]).tolist() == [int(newest.description)]


# The programs ----------------------------------------------------------------------------------------------------------


def constant(number: int) -> Any:
    """Return a model that answers with a number."""
    model = DummyRegressor(strategy="constant", constant=number).fit([[0.0], [1.0]], [0.0, 1.0])
    model.constant_ = np.asarray(model.constant_)
    return model


def together(arguments: Sequence[Sequence[str]], *, processes: int | None = None) -> list[Any]:
    """Run a program for each of the arguments, all from the same moment on; return what each answered."""
    del processes
    running = [
        subprocess.Popen(
            [sys.executable, __file__, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
        )
        for given in arguments
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [json.loads(process.communicate()[0]) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    return answers


def register(place: str, first: int, count: int) -> list[int]:
    """Register some versions; return their numbers."""
    models = [constant(number) for number in range(first, first + count)]
    start()
    registry = ModelRegistry(place)
    return [
        registry.register(model, "iris", description=str(number)).number for number, model in enumerate(models, first)
    ]


def register_and_delete(place: str, first: int, count: int) -> list[str]:
    """Register some versions, and delete every other; return what went wrong."""
    models = [constant(number) for number in range(first, first + count)]
    start()
    wrong = []
    for number, model in enumerate(models, first):
        try:
            version = ModelRegistry(place).register(model, "iris", description=str(number))
            if ModelRegistry(place).load(version).predict([[0.0]]).tolist() != [number]:
                wrong.append(f"{version} answers otherwise")
            if number % 2:
                ModelRegistry(place).delete(str(version))
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
    return wrong


def collect(place: str, _: int, count: int) -> list[str]:
    """Collect again and again; return what went wrong."""
    start()
    wrong = []
    for _ in range(count):
        try:
            ModelRegistry(place).collect()
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
    return wrong


def move(place: str, version: int, rounds: int) -> list[bool]:
    """Take one alias after the other, each as soon as the one before is taken; say which were won."""
    registry = ModelRegistry(place)
    start()
    won = []
    for number in range(rounds):
        try:
            registry.set_alias("iris", f"champion-{number}", version, expected=None)
        except AliasMovedError:
            won.append(False)
        else:
            won.append(True)
    return won


def start() -> None:
    """Say that the program is ready, and wait for the others."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


PROGRAMS: dict[str, Callable[[str, int, int], object]] = {
    "collect": collect,
    "move": move,
    "register": register,
    "register and delete": register_and_delete,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(PROGRAMS[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
