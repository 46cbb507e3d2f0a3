"""One answer for all who ask at about the same time."""

from __future__ import annotations

import asyncio

import pytest

from mlnb.labextension.sharing import Shared


def test_those_who_ask_together_share_an_answer() -> None:
    asked: list[None] = []

    async def ask() -> int:
        asked.append(None)
        await asyncio.sleep(0)
        return len(asked)

    async def run() -> None:
        shared = Shared(ask, seconds=60)
        assert [*await asyncio.gather(shared.get(), shared.get(), shared.get())] == [1, 1, 1]
        assert await shared.get() == 1
        shared.forget()
        assert await shared.get() == 2
        at_once = Shared(ask, seconds=0)
        assert [await at_once.get(), await at_once.get()] == [3, 4]

    asyncio.run(run())


def test_who_does_not_wait_any_longer_leaves_the_question_asked() -> None:
    async def run() -> None:
        gate = asyncio.Event()
        shared = Shared(gate.wait, seconds=60)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await shared.get(patience=0.01)
        gate.set()
        assert await shared.get(patience=60)

    asyncio.run(run())


def test_a_failure_is_everybodys_and_then_asked_again() -> None:
    failures = [OSError("first"), None]

    async def ask() -> str:
        failure = failures.pop(0)
        if failure is not None:
            raise failure
        return "fine"

    async def run() -> None:
        shared = Shared(ask, seconds=0)
        assert [str(one) for one in await asyncio.gather(shared.get(), shared.get(), return_exceptions=True)] == [
            "first", "first",
        ]  # fmt: skip
        assert await shared.get() == "fine"

    asyncio.run(run())
